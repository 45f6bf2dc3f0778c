//! De-aggregation of an aggregate of 50 KB, as the Kinesis Producer Library fills them, by size of the user records.

use divan::{Bencher, counter::BytesCount};
use shardkeeper::{
    Record,
    retrieval::kpl::{Policy, deaggregate},
    testing::{Aggregator, RecordBuilder},
    types::HashKeyRange,
};

const AGGREGATE_BYTES: usize = 50 * 1024;

fn aggregate(size: usize) -> Record {
    let (mut aggregator, data) = (Aggregator::default(), vec![7; size]);
    let mut users = 0;
    while aggregator.size_bytes() + size < AGGREGATE_BYTES {
        aggregator.add(&format!("user-{:04}", users % 50), &data);
        users += 1;
    }
    RecordBuilder::new(1).data(aggregator.finish().data).build()
}

#[divan::bench(args = [32, 100, 1024])]
fn deaggregate_all(bencher: Bencher<'_, '_>, size: usize) {
    let record = aggregate(size);
    bencher.counter(BytesCount::new(record.data().len())).bench(|| deaggregate(record.clone(), None, Policy::DeliverAll));
}

/// Each partition key is hashed once to see whose it is.
#[divan::bench(args = [32, 100, 1024])]
fn deaggregate_in_range(bencher: Bencher<'_, '_>, size: usize) {
    let record = aggregate(size);
    let half = HashKeyRange::parse("0", &(u128::MAX / 2).to_string()).expect("a range");
    bencher.counter(BytesCount::new(record.data().len())).bench(|| deaggregate(record.clone(), Some(half), Policy::DeliverInRange));
}

/// What every record costs that is none.
#[divan::bench]
fn plain_record(bencher: Bencher<'_, '_>) {
    let record = RecordBuilder::new(1).data(vec![7; 1024]).build();
    bencher.bench(|| deaggregate(record.clone(), None, Policy::DeliverAll));
}
