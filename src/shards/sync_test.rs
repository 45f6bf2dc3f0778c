use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::{
    clock::TokioClock,
    lease::{MemoryLeaseTable, WriteId},
    local::{Config, CreateStream, LocalKinesis, PutEntry, Quirks},
    stream::{ConsumerDescription, ConsumerReference, PageToken, RecordsPage, ShardIterator, ShardPage, ShardPosition, Subscription},
    types::{Checkpoint, ChildShard, ConsumerArn, ConsumerName, ExtendedSequenceNumber, InstanceId, SequenceNumber, StreamArn, StreamName},
};

struct Setup {
    kinesis: LocalKinesis,
    clock: SharedClock,
    table: MemoryLeaseTable,
    stream: StreamReference,
}

impl Setup {
    fn with(shards: u32, quirks: Quirks) -> Self {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_795_262_400_000)));
        let config = Config { quirks, ..Config::default() };
        let kinesis = LocalKinesis::new(config, Arc::clone(&clock), Randomness::seeded(1));
        kinesis.create_stream(&CreateStream::provisioned(name(), shards)).expect("new");
        Self { kinesis, clock, table: MemoryLeaseTable::new(), stream: StreamReference::Name(name()) }
    }

    fn new(shards: u32) -> Self {
        Self::with(shards, Quirks::default())
    }

    fn sync_by(&self, client: Arc<dyn StreamClient>, initial: InitialPosition) -> ShardSync {
        ShardSync::new(
            client,
            self.stream.clone(),
            StreamIdentifier::Single(name()),
            initial,
            Arc::clone(&self.clock),
            Randomness::seeded(2),
        )
    }

    fn sync(&self, initial: InitialPosition) -> ShardSync {
        self.sync_by(Arc::new(self.kinesis.clone()), initial)
    }

    fn rows(&self) -> Vec<Lease> {
        self.table.snapshot().leases
    }

    fn row(&self, index: u64) -> Lease {
        self.rows().into_iter().find(|l| l.shard_id == ShardId::from_index(index)).expect("a row")
    }

    async fn update(&self, row: &Lease, next: &Lease) {
        assert_eq!(self.table.update_lease(row, next).await.expect("memory"), WriteOutcome::Applied);
    }

    /// As the last owner of the shard does it.
    async fn end(&self, index: u64) {
        let page = StreamClient::list_shards(&self.kinesis, &self.stream, &ShardFilter::All, None).await.expect("listed");
        let parent = self.row(index);
        let children = page.shards.iter().filter(|s| s.parents.contains(&parent.shard_id));
        let children: Vec<ChildShard> =
            children.map(|s| ChildShard { id: s.id.clone(), parents: s.parents.clone(), hash_key_range: s.hash_key_range }).collect();
        for child in &children {
            let _: WriteOutcome = self.table.create_lease(&parent.for_child(child)).await.expect("memory");
        }
        self.update(&parent, &parent.ended(WriteId(1), children.into_iter().map(|c| c.id))).await;
    }

    async fn begin(&self, index: u64) {
        let row = self.row(index);
        let checkpoint = Checkpoint::Sequence(ExtendedSequenceNumber::new(SequenceNumber::from_parts(0, 9), 0));
        self.update(&row, &row.checkpointed(WriteId(2), checkpoint)).await;
    }
}

fn name() -> StreamName {
    StreamName::new("clicks").expect("valid")
}

fn shards(rows: &[Lease]) -> Vec<String> {
    rows.iter().map(|l| l.shard_id.as_str().trim_start_matches("shardId-").trim_start_matches('0').to_owned()).collect()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_start_makes_all_leases_and_the_next_none() {
    let setup = Setup::new(3);
    pass(60).await;
    let sync = setup.sync(InitialPosition::Latest);
    let report = sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
    assert_eq!((report.created, report.listed), (3, 3));
    for row in setup.rows() {
        assert_eq!((row.checkpoint, row.start_at), (Checkpoint::Latest, Some(setup.clock.now())));
        assert_eq!((row.counter, row.owner, row.parents.len()), (0, None, 0));
        assert!(row.hash_key_range.is_some() && row.stream_created.is_some());
    }
    pass(60).await;
    let before = setup.rows();
    assert_eq!(sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced").created, 0);
    assert_eq!(setup.rows(), before);
    assert!(!sync.needs_repair(&setup.table.snapshot()) && !sync.needs_repair(&setup.table.snapshot()));
}

#[tokio::test(start_paused = true)]
async fn latest_follows_the_shards_that_were_open_at_the_start() {
    let setup = Setup::new(2);
    pass(60).await;
    setup.kinesis.split_shard(&setup.stream, &ShardId::from_index(0), 1 << 100).expect("split");
    pass(60).await;
    let sync = setup.sync(InitialPosition::Latest);
    sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
    // Shard 0 was closed then; its children are read from that moment, not from their oldest record.
    assert_eq!(shards(&setup.rows()), ["1", "2", "3"]);
    assert!(setup.rows().iter().all(|l| l.start_at == Some(setup.clock.now())));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_ahead_of_the_services_does_not_move_the_start_into_the_future() {
    for ahead in [0, 700, 90_000] {
        let setup = Setup::new(3);
        pass(3600).await;
        let truth = setup.clock.now();
        let clock = TokioClock::starting_at(truth.plus(Duration::from_millis(ahead)));
        let sync = ShardSync { clock: Arc::new(clock), ..setup.sync(InitialPosition::Latest) };
        sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
        for row in setup.rows() {
            let start = row.start_at.expect("frozen");
            assert!(start <= truth, "{start} is to come for the service, where it is {truth}");
            assert!(truth.since(start) <= Duration::from_millis(ahead.max(1000)), "{start} is long before {truth}");
            assert_eq!((row.checkpoint, row.counter), (Checkpoint::Latest, 0));
        }
        assert_eq!(setup.rows().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_makes_the_first_lease_decides_for_all_where_reading_begins() {
    let setup = Setup::new(4);
    pass(3600).await;
    let first = setup.clock.now();
    let earlier = setup.sync(InitialPosition::Latest);
    earlier.sync(&setup.table, &TableScan::default()).await.expect("synced");
    // It had only made the first when another, whose scan was empty, begins: and each lease is taken as soon as it is there.
    for index in 1..4 {
        let row = setup.row(index);
        assert_eq!(setup.table.delete_lease(&row).await.expect("memory"), WriteOutcome::Applied);
    }
    pass(5).await;
    let later = setup.sync(InitialPosition::Latest);
    assert_eq!(later.sync(&setup.table, &TableScan::default()).await.expect("synced").created, 3);
    for row in setup.rows() {
        assert_eq!((row.start_at, row.counter), (Some(first), 0), "never anything else");
    }
}

#[tokio::test(start_paused = true)]
async fn a_moment_in_the_past_begins_with_the_shards_of_that_time() {
    let setup = Setup::new(2);
    pass(60).await;
    let moment = setup.clock.now();
    pass(60).await;
    setup.kinesis.merge_shards(&setup.stream, &ShardId::from_index(0), &ShardId::from_index(1)).expect("merged");
    pass(60).await;
    let sync = setup.sync(InitialPosition::AtTimestamp(moment));
    sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
    assert_eq!(shards(&setup.rows()), ["", "1"]);
    assert!(setup.rows().iter().all(|l| l.checkpoint == Checkpoint::AtTimestamp && l.start_at == Some(moment)));

    let ahead = setup.sync(InitialPosition::AtTimestamp(setup.clock.now().plus(Duration::from_secs(3600))));
    let error = ahead.sync(&MemoryLeaseTable::new(), &TableScan::default()).await.expect_err("in the future");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn trim_horizon_begins_with_the_oldest_shards() {
    let setup = Setup::new(2);
    pass(1).await;
    setup.kinesis.merge_shards(&setup.stream, &ShardId::from_index(0), &ShardId::from_index(1)).expect("merged");
    pass(1).await;
    setup.sync(InitialPosition::TrimHorizon).sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
    assert_eq!(shards(&setup.rows()), ["", "1"]);
    assert!(setup.rows().iter().all(|l| l.checkpoint == Checkpoint::TrimHorizon));
}

#[tokio::test(start_paused = true)]
async fn many_workers_may_start_at_the_same_time() {
    let setup = Setup::new(40);
    pass(60).await;
    let syncs: Vec<ShardSync> = (0..8).map(|_| setup.sync(InitialPosition::Latest)).collect();
    let empty = TableScan::default();
    let reports = try_join_all(syncs.iter().map(|sync| sync.sync(&setup.table, &empty))).await.expect("synced");
    assert_eq!(reports.iter().map(|r| r.created).sum::<usize>(), 40);
    assert_eq!(setup.rows().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_later_first_start_yields_to_the_earlier() {
    let setup = Setup::new(4);
    pass(60).await;
    let first = setup.clock.now();
    setup.sync(InitialPosition::Latest).sync(&setup.table, &TableScan::default()).await.expect("synced");
    // The first worker died before it had made all leases; the second had read the empty table before.
    for lost in [1, 2] {
        assert_eq!(setup.table.delete_lease(&setup.row(lost)).await.expect("memory"), WriteOutcome::Applied);
    }
    pass(5).await;
    let report = setup.sync(InitialPosition::Latest).sync(&setup.table, &TableScan::default()).await.expect("synced");
    assert_eq!(report.created, 2);
    assert!(setup.rows().iter().all(|l| l.start_at == Some(first)), "{:#?}", setup.rows());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_row_is_noticed_at_the_second_look_and_repaired_once() {
    let setup = Setup::new(3);
    pass(60).await;
    let first = setup.clock.now();
    let sync = setup.sync(InitialPosition::Latest);
    sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
    pass(600).await;
    setup.begin(0).await;
    assert_eq!(setup.table.delete_lease(&setup.row(1)).await.expect("memory"), WriteOutcome::Applied);
    assert!(!sync.needs_repair(&setup.table.snapshot()));
    assert!(sync.needs_repair(&setup.table.snapshot()));
    assert!(!sync.needs_repair(&setup.table.snapshot()), "one listing per finding");
    assert_eq!(sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced").created, 1);
    assert_eq!(setup.row(1).start_at, Some(first));
    assert!(!sync.needs_repair(&setup.table.snapshot()));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_emptied_is_no_first_start() {
    let setup = Setup::new(2);
    pass(60).await;
    let first = setup.clock.now();
    let sync = setup.sync(InitialPosition::Latest);
    sync.sync(&setup.table, &TableScan::default()).await.expect("synced");
    pass(60).await;
    for row in setup.rows() {
        assert_eq!(setup.table.delete_lease(&row).await.expect("memory"), WriteOutcome::Applied);
    }
    assert!(!sync.needs_repair(&setup.table.snapshot()) && sync.needs_repair(&setup.table.snapshot()));
    sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
    assert_eq!(setup.rows().iter().map(|l| l.start_at).collect::<Vec<_>>(), [Some(first); 2]);
}

#[tokio::test(start_paused = true)]
async fn finished_shards_are_cleaned_up_once_their_children_are_under_way() {
    let setup = Setup::new(1);
    let sync = setup.sync(InitialPosition::TrimHorizon);
    sync.sync(&setup.table, &TableScan::default()).await.expect("synced");
    pass(1).await;
    setup.kinesis.split_shard(&setup.stream, &ShardId::from_index(0), 1 << 100).expect("split");
    pass(1).await;
    setup.end(0).await;
    assert_eq!(shards(&setup.rows()), ["", "1", "2"]);
    setup.begin(1).await;
    sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
    assert_eq!(sync.clean_up(&setup.table, &setup.table.snapshot()).await.expect("memory"), 0);
    setup.begin(2).await;
    let stale = setup.table.snapshot();
    assert_eq!(sync.clean_up(&setup.table, &stale).await.expect("memory"), 0, "a late request could still make it anew");
    pass(300).await;
    assert_eq!(sync.clean_up(&setup.table, &stale).await.expect("memory"), 1);
    assert_eq!(sync.clean_up(&setup.table, &stale).await.expect("memory"), 0, "deletion is conditional");
    assert_eq!(shards(&setup.rows()), ["1", "2"]);
    assert_eq!(sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced").created, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shard_past_retention_goes_although_its_child_is_idle() {
    let setup = Setup::new(2);
    let sync = setup.sync(InitialPosition::TrimHorizon);
    sync.sync(&setup.table, &TableScan::default()).await.expect("synced");
    setup.kinesis.put_record(&setup.stream, PutEntry::new("user-7", Bytes::from_static(b"x")), None).expect("put");
    pass(1).await;
    setup.kinesis.merge_shards(&setup.stream, &ShardId::from_index(0), &ShardId::from_index(1)).expect("merged");
    pass(1).await;
    setup.end(0).await;
    setup.end(1).await;
    pass(25 * 3600).await;
    // A first sync tells the child that its parents are done with, the next one finds that it can do without them.
    for _ in 0..2 {
        let report = sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
        assert_eq!((report.created, report.expired.len()), (0, 0));
    }
    assert_eq!(sync.clean_up(&setup.table, &setup.table.snapshot()).await.expect("memory"), 0);
    pass(300).await;
    assert_eq!(sync.clean_up(&setup.table, &setup.table.snapshot()).await.expect("memory"), 2);
    assert_eq!(shards(&setup.rows()), ["2"]);
    assert_eq!(sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced").created, 0);
}

#[tokio::test(start_paused = true)]
async fn unread_shards_past_retention_are_given_up_and_their_children_are_read() {
    let setup = Setup::new(1);
    let sync = setup.sync(InitialPosition::TrimHorizon);
    sync.sync(&setup.table, &TableScan::default()).await.expect("synced");
    pass(1).await;
    setup.kinesis.split_shard(&setup.stream, &ShardId::from_index(0), 1 << 100).expect("split");
    pass(25 * 3600).await;
    // A worker takes the lease after the scan.
    let scan = setup.table.snapshot();
    let taken = scan.leases[0].taken(WriteId(7), &"worker".parse().expect("valid"), InstanceId(7));
    assert_eq!(setup.table.update_lease(&scan.leases[0], &taken).await.expect("memory"), WriteOutcome::Applied);
    let report = sync.sync(&setup.table, &scan).await.expect("synced");
    assert_eq!((report.created, report.expired), (2, vec![ShardId::from_index(0)]), "what follows is not to wait for another sync");
    let rows = setup.rows();
    let row = rows.iter().find(|l| l.shard_id == ShardId::from_index(0)).expect("kept");
    assert!(row.checkpoint.is_shard_end() && row.owner.is_none() && row.children.len() == 2, "its children would wait for ever");
    let children: Vec<_> = setup.rows().into_iter().filter(|l| !l.checkpoint.is_shard_end()).collect();
    assert!(children.len() == 2 && children.iter().all(|l| l.checkpoint == Checkpoint::TrimHorizon));
}

#[tokio::test(start_paused = true)]
async fn one_stream_that_becomes_many_does_not_begin_anew_beside_its_old_leases() {
    let setup = Setup::new(1);
    setup.sync(InitialPosition::Latest).sync(&setup.table, &TableScan::default()).await.expect("synced");
    let scan = setup.table.snapshot();
    let many = |epoch| StreamIdentifier::Multi { account_id: "123456789012".to_owned(), name: name(), epoch };
    let sync = |identifier| {
        let client = Arc::new(setup.kinesis.clone());
        ShardSync::new(client, setup.stream.clone(), identifier, InitialPosition::Latest, Arc::clone(&setup.clock), Randomness::seeded(3))
    };
    let error = sync(many(7)).sync(&setup.table, &scan).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("another application name"), "{error}");
    // The same stream made again under its name, in a table of many.
    let table = MemoryLeaseTable::new();
    sync(many(7)).sync(&table, &TableScan::default()).await.expect("synced");
    let error = sync(many(8)).sync(&table, &table.snapshot()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_again_is_refused() {
    let setup = Setup::new(1);
    let sync = setup.sync(InitialPosition::TrimHorizon);
    sync.sync(&setup.table, &TableScan::default()).await.expect("synced");
    let created = setup.clock.now();
    pass(30).await;
    setup.kinesis.delete_stream(&setup.stream).expect("deleted");
    pass(30).await;
    setup.kinesis.create_stream(&CreateStream::provisioned(name(), 1)).expect("made again");
    let error = sync.sync(&setup.table, &setup.table.snapshot()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let text = error.to_string();
    assert!(
        text.contains(&created.to_string()) && text.contains(&setup.clock.now().to_string()) && text.contains("application name"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn leases_of_another_stream_are_refused_and_not_called_outdated() {
    let setup = Setup::new(1);
    setup.sync(InitialPosition::TrimHorizon).sync(&setup.table, &TableScan::default()).await.expect("synced");
    pass(30).await;
    setup.kinesis.create_stream(&CreateStream::provisioned("orders".parse().expect("valid"), 1)).expect("created");
    let orders = ShardSync::new(
        Arc::new(setup.kinesis.clone()),
        "orders".parse().expect("valid"),
        StreamIdentifier::Single("orders".parse().expect("valid")),
        InitialPosition::TrimHorizon,
        Arc::clone(&setup.clock),
        Randomness::seeded(2),
    );
    let error = orders.sync(&setup.table, &setup.table.snapshot()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    for part in ["stream/clicks", "stream/orders", "another application name"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(!error.message().contains("made again"), "{error}");

    // A row that does not say which stream it is of, such as one that Java workers have made.
    let row = setup.row(0);
    let unnamed = row.annotated(WriteId(7), |row| row.stream_arn = None);
    setup.update(&row, &unnamed).await;
    let error = orders.sync(&setup.table, &setup.table.snapshot()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.message().contains("another stream, or to an earlier one") && error.message().contains("Z"), "{error}");
    assert!(!error.message().contains("delete"), "it may be in use: {error}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_stream_is_named() {
    let setup = Setup::new(1);
    setup.kinesis.delete_stream(&setup.stream).expect("deleted");
    let error = setup.sync(InitialPosition::Latest).sync(&setup.table, &TableScan::default()).await.expect_err("no stream");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("clicks"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_lags_is_borne() {
    let setup = Setup::with(1, Quirks { list_shards_lag: Duration::from_secs(60), ..Quirks::default() });
    let sync = setup.sync(InitialPosition::TrimHorizon);
    sync.sync(&setup.table, &TableScan::default()).await.expect("synced");
    pass(100).await;
    setup.kinesis.split_shard(&setup.stream, &ShardId::from_index(0), 1 << 100).expect("split");
    // The children are known from GetRecords, and finished before ListShards shows them.
    let range = |a, b| HashKeyRange::new(a, b).expect("valid");
    let parent = setup.row(0);
    for (index, hash_key_range) in [(1, range(0, (1 << 100) - 1)), (2, range(1 << 100, u128::MAX))] {
        let child = ChildShard { id: ShardId::from_index(index), parents: vec![ShardId::from_index(0)], hash_key_range };
        let _: WriteOutcome = setup.table.create_lease(&parent.for_child(&child)).await.expect("memory");
    }
    setup.update(&parent, &parent.ended(WriteId(1), [ShardId::from_index(1), ShardId::from_index(2)])).await;
    setup.begin(1).await;
    setup.begin(2).await;
    for _ in 0..3 {
        let report = sync.sync(&setup.table, &setup.table.snapshot()).await.expect("synced");
        assert_eq!((report.created, report.expired.len()), (0, 0));
        sync.clean_up(&setup.table, &setup.table.snapshot()).await.expect("memory");
        assert_eq!(shards(&setup.rows()), ["", "1", "2"]);
        pass(50).await;
    }
}

/// Hands out one shard per page, and answers some calls with errors.
#[derive(Debug)]
struct Pages {
    shards: Vec<Shard>,
    errors: Mutex<BTreeMap<usize, ErrorKind>>,
    calls: Mutex<Vec<Option<String>>>,
    endless: bool,
}

impl std::fmt::Display for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("pages")
    }
}

#[async_trait]
impl StreamClient for Pages {
    async fn describe_stream(&self, _: &StreamReference) -> Result<StreamDescription> {
        unreachable!("only listed")
    }

    async fn list_shards(&self, _: &StreamReference, _: &ShardFilter, page: Option<&PageToken>) -> Result<ShardPage> {
        let call = {
            let mut calls = self.calls.lock().expect("whole");
            calls.push(page.map(|p| p.0.clone()));
            calls.len()
        };
        if let Some(kind) = self.errors.lock().expect("whole").remove(&call) {
            return Err(Error::new(kind, "planned"));
        }
        let index: usize = page.map_or(0, |p| p.0.parse().expect("a number"));
        let next = if self.endless { 1 } else { index + 1 };
        let more = next < self.shards.len();
        Ok(ShardPage { shards: vec![self.shards[index].clone()], next: more.then(|| PageToken(next.to_string())) })
    }

    async fn shard_iterator(&self, _: &StreamReference, _: &ShardId, _: ShardPosition) -> Result<ShardIterator> {
        unreachable!("only listed")
    }

    async fn get_records(&self, _: &StreamReference, _: &ShardIterator, _: u32) -> Result<RecordsPage> {
        unreachable!("only listed")
    }

    async fn register_stream_consumer(&self, _: &StreamArn, _: &ConsumerName) -> Result<ConsumerDescription> {
        unreachable!("only listed")
    }

    async fn describe_stream_consumer(&self, _: &ConsumerReference) -> Result<ConsumerDescription> {
        unreachable!("only listed")
    }

    async fn list_stream_consumers(&self, _: &StreamArn) -> Result<Vec<ConsumerDescription>> {
        unreachable!("only listed")
    }

    async fn deregister_stream_consumer(&self, _: &ConsumerReference) -> Result<()> {
        unreachable!("only listed")
    }

    async fn subscribe_to_shard(&self, _: &ConsumerArn, _: &ShardId, _: ShardPosition) -> Result<Box<dyn Subscription>> {
        unreachable!("only listed")
    }
}

async fn list(errors: &[(usize, ErrorKind)], endless: bool) -> (Result<usize>, Vec<Option<String>>) {
    let setup = Setup::new(4);
    let shards = StreamClient::list_shards(&setup.kinesis, &setup.stream, &ShardFilter::All, None).await.expect("listed").shards;
    let pages = Arc::new(Pages { shards, errors: Mutex::new(errors.iter().copied().collect()), calls: Mutex::default(), endless });
    let sync = setup.sync_by(Arc::<Pages>::clone(&pages), InitialPosition::Latest);
    let listed = sync.list(&ShardFilter::All).await.map(|shards| shards.len());
    let calls = pages.calls.lock().expect("whole").clone();
    (listed, calls)
}

#[tokio::test(start_paused = true)]
async fn pages_are_put_together() {
    let (listed, calls) = list(&[], false).await;
    assert_eq!(listed.expect("listed"), 4);
    assert_eq!(calls, [None, Some("1".to_owned()), Some("2".to_owned()), Some("3".to_owned())]);

    // A throttled page is asked for again, an expired token starts anew.
    let (listed, calls) = list(&[(2, ErrorKind::Throttled), (4, ErrorKind::ExpiredToken)], false).await;
    assert_eq!(listed.expect("listed"), 4);
    let tokens: Vec<&str> = calls.iter().map(|c| c.as_deref().unwrap_or("-")).collect();
    assert_eq!(tokens, ["-", "1", "1", "2", "-", "1", "2", "3"]);

    let errors: Vec<(usize, ErrorKind)> = (1..100).map(|call| (call, ErrorKind::Unavailable)).collect();
    let (listed, calls) = list(&errors, false).await;
    assert_eq!((listed.expect_err("gives up").kind(), calls.len()), (ErrorKind::Unavailable, 6));
    assert_eq!(list(&[(1, ErrorKind::AccessDenied)], false).await.1.len(), 1);
    assert_eq!(list(&[], true).await.0.expect_err("endless").kind(), ErrorKind::InvalidData);
}
