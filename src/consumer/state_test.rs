use super::*;

const EVENTS: [Event; 12] = [
    Event::ParentsFinished,
    Event::Ready,
    Event::Succeeded,
    Event::Failed,
    Event::Exhausted,
    Event::RetryDue,
    Event::BatchReady,
    Event::EndOfShard,
    Event::StopRequested,
    Event::DeadlinePassed,
    Event::LeaseLost,
    Event::Written,
];

/// Every state with every event that means something in it. All other pairs mean nothing.
#[test]
fn every_state_answers_every_event_as_the_table_says() {
    use Action as A;
    use Call::{Initialize, Process, ShardEnded};
    use Event as E;
    use State as S;

    let first = |call| S::Gate { call, again: false };
    let again = |call| S::Gate { call, again: true };
    let abandoning = S::Abandoning { told: false };
    let farewell = (S::ShutdownGate, A::AwaitFence);
    let told = (S::Surrendering { told: true }, A::Surrender);
    let untold = (S::Surrendering { told: false }, A::Surrender);
    let losing = (S::Losing(Ending::Lost), A::CallLeaseLost);
    let done = |ending| (S::Done, A::Finish(ending));
    let lost = done(Ending::Lost);

    type Row = (State, Vec<(Event, (State, Action))>);
    let mut table: Vec<Row> = vec![
        (
            S::WaitingForParents,
            vec![(E::ParentsFinished, (first(Initialize), A::AwaitFence)), (E::StopRequested, told), (E::LeaseLost, lost)],
        ),
        // Nothing was called yet: no farewell either.
        (
            first(Initialize),
            vec![(E::Ready, (S::Running(Initialize), A::Call(Initialize))), (E::StopRequested, told), (E::LeaseLost, lost)],
        ),
        (first(Process), vec![(E::Ready, (S::Running(Process), A::Call(Process))), (E::StopRequested, farewell), (E::LeaseLost, losing)]),
        (
            first(ShardEnded),
            vec![(E::Ready, (S::Running(ShardEnded), A::Call(ShardEnded))), (E::StopRequested, farewell), (E::LeaseLost, losing)],
        ),
        (
            again(Initialize),
            vec![(E::Ready, (S::Running(Initialize), A::Call(Initialize))), (E::StopRequested, farewell), (E::LeaseLost, losing)],
        ),
        (again(Process), vec![(E::Ready, (S::Running(Process), A::Call(Process))), (E::StopRequested, farewell), (E::LeaseLost, losing)]),
        (
            again(ShardEnded),
            vec![(E::Ready, (S::Running(ShardEnded), A::Call(ShardEnded))), (E::StopRequested, untold), (E::LeaseLost, losing)],
        ),
        (
            S::Reading,
            vec![
                (E::BatchReady, (first(Process), A::AwaitFence)),
                (E::EndOfShard, (first(ShardEnded), A::AwaitFence)),
                (E::StopRequested, farewell),
                (E::LeaseLost, losing),
            ],
        ),
        (
            S::ShutdownGate,
            vec![(E::Ready, (S::ShuttingDown, A::CallShutdownRequested)), (E::DeadlinePassed, untold), (E::LeaseLost, losing)],
        ),
        (
            S::ShuttingDown,
            vec![
                (E::Succeeded, told),
                (E::Failed, told),
                (E::Exhausted, told),
                (E::DeadlinePassed, told),
                (E::LeaseLost, (S::Abandoning { told: true }, A::KeepWaiting)),
            ],
        ),
        (S::Surrendering { told: true }, vec![(E::Written, done(Ending::Surrendered)), (E::LeaseLost, lost)]),
        (S::Surrendering { told: false }, vec![(E::Written, (S::Losing(Ending::Surrendered), A::CallLeaseLost)), (E::LeaseLost, losing)]),
        (
            S::WritingEnd,
            vec![
                (E::Written, done(Ending::Ended)),
                (E::StopRequested, (S::WritingEnd, A::KeepWaiting)),
                (E::DeadlinePassed, told),
                (E::LeaseLost, lost),
            ],
        ),
        (abandoning, vec![(E::Succeeded, losing), (E::Failed, losing), (E::Exhausted, losing), (E::DeadlinePassed, losing)]),
        (S::Abandoning { told: true }, vec![(E::Succeeded, lost), (E::Failed, lost), (E::Exhausted, lost), (E::DeadlinePassed, lost)]),
        (S::AbandoningEnd, vec![(E::Succeeded, lost), (E::Failed, losing), (E::Exhausted, losing), (E::DeadlinePassed, losing)]),
        (S::Losing(Ending::Lost), vec![(E::Succeeded, lost), (E::Failed, lost), (E::Exhausted, lost), (E::DeadlinePassed, lost)]),
        (
            S::Losing(Ending::Surrendered),
            [E::Succeeded, E::Failed, E::Exhausted, E::DeadlinePassed].map(|event| (event, done(Ending::Surrendered))).to_vec(),
        ),
        (S::Done, vec![]),
    ];
    for call in [Initialize, Process, ShardEnded] {
        let abandoning = if call == ShardEnded { S::AbandoningEnd } else { abandoning };
        let after = if call == ShardEnded { untold } else { farewell };
        let succeeded = if call == ShardEnded { (S::WritingEnd, A::WriteEnd) } else { (S::Reading, A::Fetch) };
        let drained = if call == ShardEnded { (S::WritingEnd, A::WriteEnd) } else { farewell };
        table.push((
            S::Running(call),
            vec![
                (E::Succeeded, succeeded),
                (E::Failed, (S::Backoff(call), A::AwaitRetry)),
                (E::Exhausted, (S::Parked(call), A::Park)),
                (E::StopRequested, (S::Draining(call), A::KeepWaiting)),
                (E::DeadlinePassed, untold),
                (E::LeaseLost, (abandoning, A::KeepWaiting)),
            ],
        ));
        table.push((
            S::Draining(call),
            vec![
                (E::Succeeded, drained),
                (E::Failed, after),
                (E::Exhausted, after),
                (E::DeadlinePassed, untold),
                (E::LeaseLost, (abandoning, A::KeepWaiting)),
            ],
        ));
        table
            .push((S::Backoff(call), vec![(E::RetryDue, (again(call), A::AwaitFence)), (E::StopRequested, after), (E::LeaseLost, losing)]));
        table.push((S::Parked(call), vec![(E::StopRequested, after), (E::LeaseLost, losing)]));
    }
    assert_eq!(table.len(), 31);
    for (state, steps) in table {
        for event in EVENTS {
            let expected = steps.iter().find(|(e, _)| *e == event).map(|(_, step)| *step);
            assert_eq!(state.on(event), expected, "{state:?} on {event:?}");
        }
    }
}

/// From every state that can be reached, a stop and a loss lead to the end, whatever the calls do.
#[test]
fn a_stop_and_a_loss_always_lead_to_the_end() {
    let mut reached = vec![State::WaitingForParents];
    let mut next = 0;
    while next < reached.len() {
        for event in EVENTS {
            if let Some((state, _)) = reached[next].on(event)
                && !reached.contains(&state)
            {
                reached.push(state);
            }
        }
        next += 1;
    }
    assert_eq!(reached.len(), 31, "every state is in use");
    for interruption in [Event::StopRequested, Event::LeaseLost] {
        for start in &reached {
            let Some((mut state, mut action)) = start.on(interruption) else { continue };
            let mut farewells = 0;
            for _ in 0..10 {
                farewells += u32::from(matches!(action, Action::CallShutdownRequested | Action::CallLeaseLost));
                let event = match action {
                    Action::AwaitFence => Event::Ready,
                    Action::Surrender | Action::WriteEnd => Event::Written,
                    Action::Finish(_) => break,
                    _ => Event::DeadlinePassed,
                };
                let Some(step) = state.on(event) else { panic!("{state:?} gets stuck on {event:?}") };
                (state, action) = step;
            }
            assert_eq!(state, State::Done, "from {start:?}");
            assert!(farewells <= 1, "from {start:?}");
        }
    }
}
