//! The life of a shard consumer, without what it waits for.

use divan::{Bencher, black_box, counter::ItemsCount};

#[path = "../../src/consumer/state.rs"]
#[allow(dead_code, unused_imports, reason = "the library uses the rest, and its tests stay out")]
mod state;

use state::{Event, State};

const BATCHES: usize = 1000;

/// From its parents to its end, with a thousand batches between.
#[divan::bench]
fn life_of_1000_batches(bencher: Bencher<'_, '_>) {
    let batch = [Event::BatchReady, Event::Ready, Event::Succeeded];
    let mut events = vec![Event::ParentsFinished, Event::Ready, Event::Succeeded];
    events.extend(batch.iter().cycle().take(batch.len() * BATCHES));
    events.extend([Event::EndOfShard, Event::Ready, Event::Succeeded, Event::Written]);
    bencher.counter(ItemsCount::new(events.len())).bench(|| {
        let step = |state: State, event: &Event| state.on(black_box(*event)).expect("it means something").0;
        events.iter().fold(State::WaitingForParents, step)
    });
}
