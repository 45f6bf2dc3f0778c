package peers;

import java.util.List;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** Writes every call down, and checkpoints as it is told. */
final class ReportingProcessor implements ShardRecordProcessor {
    /** When checkpoints are written: nanoseconds between them, 0 for each batch, null for none but at the end. */
    record Rule(Long interval) {
        static Rule parse(String text) {
            return switch (text) {
                case "batch" -> new Rule(0L);
                case "never" -> new Rule(null);
                default -> new Rule((long) (Double.parseDouble(text) * 1e9));
            };
        }
    }

    private final Events events;
    private final boolean batchEvents;
    private final Rule rule;
    private String shard;
    /** Tells the tenures of a shard apart, and grows with each. */
    private long token;
    private String last = "";
    private long checkpointed = System.nanoTime();

    ReportingProcessor(Events events, boolean batchEvents, Rule rule) {
        this.events = events;
        this.batchEvents = batchEvents;
        this.rule = rule;
    }

    @Override
    public void initialize(InitializationInput input) {
        shard = input.shardId();
        token = System.currentTimeMillis();
        events.write("init", "shard", shard, "token", token, "from", input.extendedSequenceNumber().sequenceNumber());
    }

    @Override
    public void processRecords(ProcessRecordsInput input) {
        List<KinesisClientRecord> records = input.records();
        if (records.isEmpty()) {
            return;
        }
        long bytes = 0;
        for (KinesisClientRecord each : records) {
            bytes += each.data().remaining();
        }
        events.handedOver(records.size(), bytes);
        last = records.get(records.size() - 1).sequenceNumber();
        if (batchEvents) {
            events.write("batch", "shard", shard, "token", token, "first", records.get(0).sequenceNumber(), "last", last, "n",
                    records.size(), "bytes", bytes, "behind", input.millisBehindLatest());
        }
        if (rule.interval() != null && System.nanoTime() - checkpointed >= rule.interval()) {
            checkpointed = System.nanoTime();
            checkpoint(input.checkpointer());
        }
    }

    @Override
    public void leaseLost(LeaseLostInput input) {
        events.write("lease_lost", "shard", shard, "token", token);
    }

    @Override
    public void shardEnded(ShardEndedInput input) {
        last = "SHARD_END";
        checkpoint(input.checkpointer());
        events.write("shard_ended", "shard", shard, "token", token);
    }

    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {
        checkpoint(input.checkpointer());
        events.write("shutdown_requested", "shard", shard, "token", token);
    }

    private void checkpoint(RecordProcessorCheckpointer checkpointer) {
        try {
            checkpointer.checkpoint();
            if (batchEvents && !last.isEmpty()) {
                events.write("checkpoint", "shard", shard, "token", token, "at", last);
            }
        } catch (ShutdownException e) {
            events.write("fenced", "shard", shard, "token", token);
        } catch (InvalidStateException | RuntimeException e) {
            events.write("checkpoint_failed", "shard", shard, "token", token, "error", e.getClass().getSimpleName());
        }
    }
}
