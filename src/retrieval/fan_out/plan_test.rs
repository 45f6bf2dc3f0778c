use super::*;
use Action::{AwaitRoom, AwaitSuccessor, Finish, Read, ReadOn, Renew, Subscribe};
use Event::{Broke, Delivered, End, Full, Opened, Over, Refused, RenewalDue, Room, Silent};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// An action, with moments as milliseconds since the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Subscribe(u64),
    Find(u64),
    Read(u64),
    Other(Action),
}

/// Takes the steps, each at its millisecond, and returns where they lead: state, action, and whether the last was reported.
fn run(steps: &[(u64, Event)], random: f64) -> (State, Then, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let start = runtime.block_on(async { Instant::now() });
    let mut plan = Plan::new(&Config::default(), start);
    let mut last = None;
    for (at, event) in steps {
        last = Some((start + ms(*at), plan.on(*event, start + ms(*at), random)));
    }
    let (now, step) = last.expect("at least one step");
    let after = |moment: Instant| u64::try_from((moment - now).as_millis()).expect("short");
    let then = match step.action {
        Subscribe { at, find: false } => Then::Subscribe(after(at)),
        Subscribe { at, find: true } => Then::Find(after(at)),
        Read { renew_at } => Then::Read(after(renew_at)),
        action => Then::Other(action),
    };
    (plan.state(), then, step.report)
}

const OPEN: (u64, Event) = (0, Opened);
const DUE: (u64, Event) = (270_000, RenewalDue);

#[test]
fn each_event_leads_where_the_diagram_says() {
    use State::{Closed, Ended, Open, Parked, Renewing, Succeeding};
    let other = Then::Other;
    for (name, steps, state, then) in [
        ("opened", &[OPEN][..], Open, Then::Read(270_000)),
        ("an event", &[OPEN, (100_000, Delivered)], Open, Then::Read(170_000)),
        ("the end of a subscription: at once", &[OPEN, (300_000, Over)], Closed, Then::Subscribe(0)),
        ("an early end: a second after the call", &[OPEN, (300, Over)], Closed, Then::Subscribe(700)),
        ("it broke: at once", &[OPEN, (60_000, Delivered), (60_001, Broke(ErrorKind::Unavailable))], Closed, Then::Subscribe(0)),
        ("silence: at once", &[OPEN, (60_000, Delivered), (75_000, Silent)], Closed, Then::Subscribe(0)),
        ("replaced: at once", &[OPEN, (60_000, Broke(ErrorKind::ResourceInUse))], Closed, Then::Subscribe(0)),
        ("in use: a second later", &[(0, Refused(ErrorKind::ResourceInUse))], Closed, Then::Subscribe(1000)),
        ("the consumer may be gone: look", &[OPEN, (60_000, Broke(ErrorKind::NotFound))], Closed, Then::Find(0)),
        ("the consumer may be gone: look, a second after the call", &[(0, Refused(ErrorKind::NotFound))], Closed, Then::Find(1000)),
        ("no room", &[OPEN, (60_000, Full)], Parked, other(AwaitRoom)),
        ("the rest of an event while parked", &[OPEN, (60_000, Full), (61_000, Delivered)], Parked, other(AwaitRoom)),
        ("its end while parked", &[OPEN, (60_000, Full), (61_000, End { children: true })], Ended, other(Finish)),
        ("room again", &[OPEN, (60_000, Full), (90_000, Room)], Closed, Then::Subscribe(0)),
        ("the end of the shard", &[OPEN, (1, End { children: true })], Ended, other(Finish)),
        ("an end without children: ask again", &[OPEN, (60_000, End { children: false })], Closed, Then::Subscribe(0)),
        (
            "twice is an end",
            &[OPEN, (60_000, End { children: false }), (60_010, Opened), (60_020, End { children: false })],
            Ended,
            other(Finish),
        ),
        (
            "an event between them: ask again",
            &[OPEN, (1000, End { children: false }), (1010, Opened), (60_000, Delivered), (60_020, End { children: false })],
            Closed,
            Then::Subscribe(0),
        ),
        ("renewal", &[OPEN, DUE], Renewing, other(Renew)),
        ("events of the old one", &[OPEN, DUE, (270_001, Delivered)], Renewing, other(ReadOn)),
        ("renewed", &[OPEN, DUE, (270_100, Opened)], Open, Then::Read(270_000)),
        ("not renewed: the old one is read on", &[OPEN, DUE, (270_100, Refused(ErrorKind::AccessDenied))], Open, Then::Read(1000)),
        ("the old one is over first", &[OPEN, DUE, (270_100, Over)], Succeeding, other(AwaitSuccessor)),
        ("or was replaced first", &[OPEN, DUE, (270_100, Broke(ErrorKind::ResourceInUse))], Succeeding, other(AwaitSuccessor)),
        ("or silent", &[OPEN, DUE, (270_100, Silent)], Succeeding, other(AwaitSuccessor)),
        ("then the successor", &[OPEN, DUE, (270_100, Over), (270_200, Opened)], Open, Then::Read(270_000)),
        (
            "which may be refused",
            &[OPEN, DUE, (270_100, Over), (270_200, Refused(ErrorKind::ResourceInUse))],
            Closed,
            Then::Subscribe(1000),
        ),
        ("no room while renewing", &[OPEN, DUE, (270_100, Full)], Parked, other(AwaitRoom)),
        ("the end while renewing", &[OPEN, DUE, (270_100, End { children: true })], Ended, other(Finish)),
    ] {
        assert_eq!(run(steps, 0.0), (state, then, false), "{name}");
    }
}

#[test]
fn failures_in_a_row_wait_longer_and_an_event_forgets_them() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Throttled, ErrorKind::LimitExceeded] {
        let mut steps = Vec::new();
        let mut waits = Vec::new();
        for i in 0..7 {
            steps.push((i * 100_000, Refused(kind)));
            let (_, Then::Subscribe(wait), report) = run(&steps, 0.0) else { panic!("it is tried again") };
            assert!(!report, "it passes by itself");
            waits.push(wait);
        }
        assert_eq!(waits, [1000, 1000, 2000, 4000, 8000, 10_000, 10_000], "{kind:?}");
        steps.extend([(800_000, Opened), (801_000, Delivered), (900_000, Broke(kind))]);
        assert_eq!(run(&steps, 0.0).1, Then::Subscribe(0));
    }
    // A stream that takes subscriptions and breaks each before an event is no better.
    let steps: Vec<_> = (0..4).flat_map(|i| [(i * 100_000, Opened), (i * 100_000 + 50_000, Broke(ErrorKind::Unavailable))]).collect();
    assert_eq!(run(&steps, 0.0).1, Then::Subscribe(4000));
}

#[test]
fn use_by_another_is_tried_every_second_however_long_it_takes() {
    let steps: Vec<_> = (0..60).map(|i| (i * 1000, Refused(ErrorKind::ResourceInUse))).collect();
    assert_eq!(run(&steps, 0.9), (State::Closed, Then::Subscribe(1000), false));
}

#[test]
fn trouble_is_reported_when_confirmed_and_once() {
    for (kind, find) in [(ErrorKind::NotFound, true), (ErrorKind::AccessDenied, false), (ErrorKind::InvalidInput, false)] {
        let steps: Vec<_> = (0..12).map(|i| (i * 100_000, Refused(kind))).collect();
        let reports: Vec<bool> = (1..=12).map(|n| run(&steps[..n], 0.0).2).collect();
        assert_eq!(reports.iter().position(|r| *r), Some(4), "{kind:?}");
        assert_eq!(reports.iter().filter(|r| **r).count(), 1, "{kind:?}");
        let slowly = if find { Then::Find(15_000) } else { Then::Subscribe(15_000) };
        assert_eq!(run(&steps, 0.0).1, slowly);
        // An event makes it news again.
        let mut steps = steps;
        steps.extend([(2_000_000, Opened), (2_000_001, Delivered)]);
        steps.extend((1..=5).map(|i| (2_000_000 + i * 100_000, if i == 1 { Broke(kind) } else { Refused(kind) })));
        assert!(run(&steps, 0.0).2, "{kind:?}");
    }
    let mixed: Vec<_> =
        (0..12).map(|i| (i * 100_000, Refused(if i % 3 == 2 { ErrorKind::Unavailable } else { ErrorKind::NotFound }))).collect();
    assert!((1..=12).all(|n| !run(&mixed[..n], 0.0).2), "trouble that comes and goes is not confirmed");
}

#[test]
fn renewals_are_spread() {
    assert_eq!(run(&[OPEN], 1.0).1, Then::Read(243_000));
    assert_eq!(run(&[OPEN], 0.5).1, Then::Read(256_500));
}
