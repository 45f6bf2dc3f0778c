package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;

/** The event file: JSON lines, each written at once, as {@code integration/peers/README.md} describes them. */
final class Events implements AutoCloseable {
    private final java.io.OutputStream file;
    private final String worker;
    private final LongAdder records = new LongAdder();
    private final LongAdder bytes = new LongAdder();
    private final Map<String, LongAdder> calls = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> errors = new ConcurrentHashMap<>();

    Events(Path path, String worker) throws IOException {
        this.file = Files.newOutputStream(path, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        this.worker = worker;
    }

    /** Writes an event; {@code fields} are names and values in turns. */
    void write(String kind, Object... fields) {
        StringBuilder line = new StringBuilder();
        line.append("{\"t\":").append(System.currentTimeMillis());
        append(line, "worker", worker);
        append(line, "ev", kind);
        for (int i = 0; i < fields.length; i += 2) {
            append(line, (String) fields[i], fields[i + 1]);
        }
        byte[] text = line.append("}\n").toString().getBytes(StandardCharsets.UTF_8);
        synchronized (file) {
            try {
                file.write(text);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    void handedOver(long recordCount, long byteCount) {
        records.add(recordCount);
        bytes.add(byteCount);
    }

    void called(String operation) {
        calls.computeIfAbsent(operation, name -> new LongAdder()).increment();
    }

    void failed(String operation, String error) {
        errors.computeIfAbsent(operation + ":" + error, name -> new LongAdder()).increment();
    }

    /** Writes all counters, which only grow. The KCL does not tell who leads, and knows no expulsion. */
    void writeCounters() {
        write("calls", "records", records.sum(), "bytes", bytes.sum(), "calls", calls, "errors", errors, "leading", false,
                "expelled", 0);
    }

    private static void append(StringBuilder line, String name, Object value) {
        line.append(",\"").append(name).append("\":");
        if (value instanceof Map<?, ?> counters) {
            StringBuilder members = new StringBuilder();
            new TreeMap<>(counters).forEach((key, count) -> append(members, (String) key, ((LongAdder) count).sum()));
            line.append('{').append(members, Math.min(1, members.length()), members.length()).append('}');
        } else if (value instanceof Number || value instanceof Boolean) {
            line.append(value);
        } else {
            // Ids, numbers and names of classes: nothing that needs an escape.
            line.append('"').append(value).append('"');
        }
    }

    @Override
    public void close() throws IOException {
        file.close();
    }
}
