//! Stream consumers and subscriptions of the local stream, as a [`StreamClient`](crate::stream::StreamClient) has them.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{LocalKinesis, fan_out, model};
use crate::{
    error::Result,
    stream::{ConsumerDescription, ConsumerReference, Heard, ShardPosition, StreamReference, Subscription, SubscriptionEvent},
    types::{ConsumerArn, ConsumerName, ShardId, StreamArn},
};

impl LocalKinesis {
    pub(super) fn register(&self, stream: &StreamArn, name: &ConsumerName) -> Result<ConsumerDescription> {
        let stream = StreamReference::Arn(stream.clone());
        description(&self.register_stream_consumer(&stream, name.as_str(), BTreeMap::new())?)
    }

    pub(super) fn describe(&self, consumer: &ConsumerReference) -> Result<ConsumerDescription> {
        description(&self.describe_stream_consumer(&reference(consumer)?)?)
    }

    pub(super) fn list(&self, stream: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        let page = self.list_stream_consumers(&model::ListStreamConsumers::of(StreamReference::Arn(stream.clone())))?;
        page.consumers.iter().map(description).collect()
    }

    pub(super) fn deregister(&self, consumer: &ConsumerReference) -> Result<()> {
        Ok(self.deregister_stream_consumer(&reference(consumer)?)?)
    }

    pub(super) fn subscribe(&self, consumer: &ConsumerArn, shard: &ShardId, position: ShardPosition) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(self.subscribe_to_shard(consumer, shard, position)?))
    }
}

fn reference(consumer: &ConsumerReference) -> Result<model::ConsumerReference> {
    Ok(match consumer {
        ConsumerReference::Arn(arn) => model::ConsumerReference::Arn(arn.clone()),
        ConsumerReference::Name { stream, name } => {
            model::ConsumerReference::Name { stream: StreamReference::Arn(stream.clone()), name: name.to_string() }
        }
    })
}

fn description(consumer: &model::StreamConsumer) -> Result<ConsumerDescription> {
    Ok(ConsumerDescription { name: consumer.name.parse()?, arn: consumer.arn.clone(), status: consumer.status, created: consumer.created })
}

#[async_trait]
impl Subscription for fan_out::Subscription {
    async fn next(&mut self) -> Result<Option<SubscriptionEvent>> {
        Ok(Self::next(self).await.transpose()?)
    }

    fn heard(&self) -> Heard {
        self.heard.clone()
    }
}
