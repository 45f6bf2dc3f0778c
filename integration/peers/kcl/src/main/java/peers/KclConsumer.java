package peers;

import java.net.URI;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClientBuilder;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.CoordinatorConfig;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.LifecycleConfig;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.RetrievalConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A worker of the Java KCL that takes the flags of {@code examples/peer_consumer} and writes the same events. Its
 * parent's end is its own: it watches its stdin for that.
 */
public final class KclConsumer {
    /** Longest graceful shutdown. */
    private static final long SHUTDOWN_SECONDS = 30;

    private final Map<String, String> flags = new TreeMap<>();
    private final List<String> settings = new ArrayList<>();
    private final Events events;

    private KclConsumer(String[] arguments) throws Exception {
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            if (arguments[i].equals("--set")) {
                settings.add(arguments[i + 1]);
            } else {
                flags.put(arguments[i].substring(2), arguments[i + 1]);
            }
        }
        events = new Events(Path.of(flags.get("events")), flags.get("worker"));
    }

    public static void main(String[] arguments) throws Exception {
        new KclConsumer(arguments).run();
    }

    private String flag(String name, String otherwise) {
        return flags.getOrDefault(name, otherwise);
    }

    private void run() throws Exception {
        events.write("start", "pid", ProcessHandle.current().pid(), "mode", flag("mode", "polling"));
        Scheduler scheduler = scheduler();
        ScheduledExecutorService ticker = Executors.newSingleThreadScheduledExecutor(KclConsumer::daemon);
        ticker.scheduleAtFixedRate(events::writeCounters, 1, 1, TimeUnit.SECONDS);
        Thread running = new Thread(scheduler, "scheduler");
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(scheduler, running)));
        daemon(KclConsumer::followParent).start();
        running.start();
        events.write("running");
    }

    private Scheduler scheduler() throws Exception {
        String stream = flags.get("stream");
        String application = flags.get("app");
        boolean fanOut = flag("mode", "polling").equals("fan-out");
        KinesisAsyncClient kinesis = kinesis(flag("http", fanOut ? "2" : "1").equals("2"));
        DynamoDbAsyncClient dynamodb = local(DynamoDbAsyncClient.builder(), flags.get("dynamodb-endpoint")).build();
        // Never called: metrics are off.
        CloudWatchAsyncClient cloudWatch = local(CloudWatchAsyncClient.builder(), "http://127.0.0.1:9").build();

        boolean latest = flag("position", "trim").equals("latest");
        InitialPositionInStream position = latest ? InitialPositionInStream.LATEST : InitialPositionInStream.TRIM_HORIZON;
        boolean batchEvents = flag("batch-events", "on").equals("on");
        ReportingProcessor.Rule rule = ReportingProcessor.Rule.parse(flag("checkpoint", "batch"));
        ConfigsBuilder configs = new ConfigsBuilder(
                new SingleStreamTracker(stream, InitialPositionInStreamExtended.newInitialPosition(position)), application,
                kinesis, dynamodb, cloudWatch, flags.get("worker"), () -> new ReportingProcessor(events, batchEvents, rule));
        CoordinatorConfig coordinator = configs.coordinatorConfig();
        LeaseManagementConfig lease = configs.leaseManagementConfig();
        LifecycleConfig lifecycle = configs.lifecycleConfig();
        RetrievalConfig retrieval = configs.retrievalConfig();
        PollingConfig polling = new PollingConfig(stream, kinesis);
        if (flags.containsKey("max-records")) {
            polling.maxRecords(Integer.parseInt(flags.get("max-records")));
        }

        Settings known = new Settings(events, coordinator, lease, lifecycle, retrieval, polling);
        if (flag("profile", "default").equals("tuned")) {
            known.tune();
        }
        for (String setting : settings) {
            known.set(setting);
        }
        if (flag("pause", "on").equals("off")) {
            known.withoutPause(polling);
        }
        retrieval.retrievalSpecificConfig(
                fanOut ? new FanOutConfig(kinesis).streamName(stream).applicationName(application) : polling);
        return new Scheduler(configs.checkpointConfig(), coordinator, lease, lifecycle,
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()), configs.processorConfig(), retrieval);
    }

    /** {@code http2}: the KCL's own settings, which on a plain endpoint are HTTP/2 with prior knowledge. */
    private KinesisAsyncClient kinesis(boolean http2) {
        KinesisAsyncClientBuilder builder = local(KinesisAsyncClient.builder(), flags.get("kinesis-endpoint"));
        if (http2) {
            return KinesisClientUtil.createKinesisAsyncClient(builder);
        }
        NettyNioAsyncHttpClient.Builder http = NettyNioAsyncHttpClient.builder().maxConcurrency(1000);
        return builder.httpClientBuilder(http.protocol(Protocol.HTTP1_1)).build();
    }

    private <B extends AwsClientBuilder<B, ?>> B local(B builder, String endpoint) {
        return builder.region(Region.of(flag("region", "us-east-1")))
                .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test")))
                .endpointOverride(URI.create(endpoint))
                .overrideConfiguration(c -> c.addExecutionInterceptor(new CallCounter(events)));
    }

    private void stop(Scheduler scheduler, Thread running) {
        String how;
        try {
            boolean graceful = scheduler.startGracefulShutdown().get(SHUTDOWN_SECONDS, TimeUnit.SECONDS);
            how = graceful ? "graceful" : "forced";
            running.join(TimeUnit.SECONDS.toMillis(10));
        } catch (Exception e) {
            how = e.getClass().getSimpleName();
        }
        events.writeCounters();
        events.write("exit", "how", how);
    }

    private static void followParent() {
        try {
            System.in.readAllBytes();
        } catch (java.io.IOException e) {
            // As good as its end.
        }
        Runtime.getRuntime().halt(3);
    }

    private static Thread daemon(Runnable task) {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    }
}
