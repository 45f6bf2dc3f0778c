use proptest::prelude::*;

use super::*;

const MIB: u64 = 1024 * 1024;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Clone, Copy)]
enum After {
    Page { records: u32, bytes: u64, limit: u32, behind: u64 },
    Failure(u64),
}

const fn tip(records: u32, bytes: u64) -> After {
    After::Page { records, bytes, limit: 1000, behind: 0 }
}

const fn behind(records: u32, bytes: u64) -> After {
    After::Page { records, bytes, limit: 1000, behind: 5000 }
}

/// Makes one call after the other as soon as allowed, each taking 10 ms, and returns the last wait, from sending to sending.
fn last_wait(pacer: &mut Pacer, outcomes: &[After]) -> Duration {
    let mut wait = Duration::ZERO;
    for outcome in outcomes {
        let sent = pacer.not_before();
        let call = Call { sent, answered: sent + ms(10) };
        match *outcome {
            After::Page { records, bytes, limit, behind } => {
                pacer.answered(call, Page { records, bytes, limit, millis_behind_latest: behind }, 0.0);
            }
            After::Failure(delay) => pacer.failed(call, ms(delay)),
        }
        wait = pacer.not_before() - sent;
    }
    wait
}

#[tokio::test(start_paused = true)]
async fn the_pace_follows_what_the_shard_holds() {
    for (name, outcomes, expected) in [
        ("records trickle in", &[tip(3, 300)][..], ms(250)),
        ("one empty answer is no quiet yet", &[tip(0, 0)], ms(250)),
        ("two empty answers", &[tip(0, 0), tip(0, 0)], ms(500)),
        ("three empty answers", &[tip(0, 0), tip(0, 0), tip(0, 0)], ms(1000)),
        ("many empty answers", &[tip(0, 0); 40], ms(1000)),
        ("a record ends the quiet", &[tip(0, 0), tip(0, 0), tip(0, 0), tip(1, 100)], ms(250)),
        ("behind with few bytes: calls bind", &[behind(10, 1000)], ms(200)),
        ("behind in an empty stretch", &[behind(0, 0)], ms(200)),
        ("behind at full rate: bytes bind", &[behind(1000, 2 * MIB)], ms(1000)),
        ("the largest answer uses up five seconds", &[behind(1000, 10 * MIB)], ms(5000)),
        ("a full answer at the tip is behind", &[After::Page { records: 1000, bytes: 100_000, limit: 1000, behind: 0 }], ms(200)),
        ("a failure waits as told", &[After::Failure(700)], ms(710)),
        ("but not shorter than calls may follow", &[After::Failure(0)], ms(210)),
    ] {
        let mut pacer = Pacer::new(&Config::default(), Instant::now());
        assert_eq!(last_wait(&mut pacer, outcomes), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_aims_at_the_bytes_set_aside() {
    let mut pacer = Pacer::new(&Config::default(), Instant::now());
    last_wait(&mut pacer, &[behind(4, 4 * MIB)]);
    assert_eq!(pacer.wanted_bytes(MIB), 2 * MIB);
    assert_eq!((pacer.limit(2 * MIB), pacer.least_bytes()), (1, MIB + RECORD_OVERHEAD_BYTES), "large records are believed at once");
    last_wait(&mut pacer, &[behind(1000, 100_000); 60]);
    assert!(pacer.limit(2 * MIB) >= 7000, "small ones by and by: {}", pacer.limit(2 * MIB));
    assert!(pacer.least_bytes() < 300, "{}", pacer.least_bytes());
    assert_eq!(pacer.limit(0), 1);
    assert_eq!(pacer.limit(u64::MAX), 10_000);
    last_wait(&mut pacer, &[tip(0, 0)]);
    assert_eq!(pacer.wanted_bytes(MIB), LEAST_BYTES, "an idle shard sets little aside");
}

#[tokio::test(start_paused = true)]
async fn records_that_nobody_has_seen_may_be_large() {
    let mut pacer = Pacer::new(&Config::default(), Instant::now());
    for (even_part, wanted, limit) in
        [(64 * MIB, 10 * MIB, 32), (10 * MIB, 10 * MIB, 32), (4 * MIB, 4 * MIB, 4), (MIB / 2, MIB, 1), (0, MIB, 1)]
    {
        assert_eq!(pacer.wanted_bytes(even_part), wanted);
        assert_eq!(pacer.limit(wanted), limit, "{even_part}");
        let worst = u64::from(limit) * MIB;
        assert!(worst.min(10 * MIB) <= wanted, "the largest answer fits what is set aside");
    }
    last_wait(&mut pacer, &[tip(0, 0); 3]);
    assert_eq!((pacer.wanted_bytes(4 * MIB), pacer.least_bytes()), (LEAST_BYTES, 32 * 1024), "nothing waits in a quiet shard");
    last_wait(&mut pacer, &[tip(1, 100)]);
    assert_eq!(pacer.least_bytes(), 260);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_through_is_asked_for_in_smaller_pieces_which_grow_again() {
    let mut pacer = Pacer::new(&Config::default(), Instant::now());
    last_wait(&mut pacer, &[behind(1000, 100_000); 60]);
    let full = pacer.limit(2 * MIB);
    let mut asked = vec![full];
    // Nothing of more than one record comes through, until the network is mended.
    while asked[asked.len() - 1] > 1 {
        pacer.lost(asked[asked.len() - 1]);
        asked.push(pacer.limit(2 * MIB));
    }
    assert!(asked.windows(2).all(|pair| pair[1] == pair[0] / 2), "{asked:?}");
    pacer.lost(1);
    assert_eq!((pacer.limit(2 * MIB), pacer.wanted_bytes(MIB)), (1, LEAST_BYTES), "one record is the least there is");
    let calls = (0..100).find(|_| {
        last_wait(&mut pacer, &[behind(1000, 100_000)]);
        pacer.limit(2 * MIB) >= full
    });
    assert!((30..50).contains(&calls.expect("all that it was")), "{calls:?}");
}

#[derive(Debug, Clone)]
struct Turn {
    /// Added to the shortest time that a call takes, before and after the service counts it.
    before: u64,
    after: u64,
    /// How long the caller dawdles.
    late: u64,
    kind: u8,
    bytes: u64,
    random: f64,
}

fn turn() -> impl Strategy<Value = Turn> {
    (0u64..80, 0u64..80, prop_oneof![9 => Just(0u64), 1 => 0u64..3000], 0u8..8, 0u64..10 * MIB, 0.0..1.0f64)
        .prop_map(|(before, after, late, kind, bytes, random)| Turn { before, after, late, kind, bytes, random })
}

proptest! {
    /// By the service's clock: never more than 5 calls in a second, and never more than 2 MiB in a second but for
    /// the last answer, which the rest after it pays for.
    #[test]
    fn the_limits_of_the_shard_are_kept(turns in prop::collection::vec(turn(), 2..200)) {
        let start = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
            .block_on(async { Instant::now() });
        let mut pacer = Pacer::new(&Config::default(), start);
        let one_way = ms(5);
        let mut counted: Vec<(Instant, u64)> = Vec::new();
        for (i, turn) in turns.iter().enumerate() {
            let sent = pacer.not_before() + ms(turn.late);
            // The first call is answered, as fast as calls get; later ones dawdle before or after they are counted.
            let (before, after, kind) = if i == 0 { (0, 0, 2) } else { (turn.before, turn.after, turn.kind) };
            let at = sent + one_way + ms(before);
            let call = Call { sent, answered: at + one_way + ms(after) };
            let mut bytes = 0;
            match kind {
                0 => pacer.throttled(call, turn.random),
                1 => pacer.failed(call, ms(turn.late)),
                kind => {
                    let behind = u64::from(kind > 4) * 1000;
                    bytes = if kind % 2 == 0 { turn.bytes } else { turn.bytes / 1000 };
                    pacer.answered(call, Page { records: 10, bytes, limit: 20, millis_behind_latest: behind }, turn.random);
                }
            }
            // What is throttled is not counted.
            if kind != 0 {
                counted.push((at, bytes));
            }
        }
        for (i, (from, _)) in counted.iter().enumerate() {
            let window: Vec<_> = counted[i..].iter().take_while(|(at, _)| *at < *from + Duration::from_secs(1)).collect();
            prop_assert!(window.len() <= 5, "{} calls in a second", window.len());
            let bytes: u64 = window[..window.len() - 1].iter().map(|(_, b)| b).sum();
            prop_assert!(bytes <= 2 * MIB, "{bytes} bytes in a second");
        }
        prop_assert!(counted.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
