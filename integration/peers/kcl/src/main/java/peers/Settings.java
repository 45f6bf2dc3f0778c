package peers;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import software.amazon.kinesis.coordinator.CoordinatorConfig;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.LifecycleConfig;
import software.amazon.kinesis.retrieval.RetrievalConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/** Any setting of the KCL by name, such as {@code lease.failoverTimeMillis=3000}; by reflection, as versions differ. */
final class Settings {
    /** The shortest timers that can be set without writing code. */
    private static final List<String> TUNED = List.of(
            "lease.failoverTimeMillis=3000",
            "lease.shardSyncIntervalMillis=1000",
            "lease.listShardsBackoffTimeInMillis=200",
            "lease.leasesRecoveryAuditorExecutionFrequencyMillis=10000",
            "lease.dynamoDbLockBasedLeaderLeaseDurationInMillis=6000",
            "lease.dynamoDbLockBasedLeaderHeartbeatPeriodInMillis=2000",
            "assignment.workerMetricsReporterFreqInMillis=2000",
            "assignment.varianceBalancingFrequency=1",
            "hand-off.gracefulLeaseHandoffTimeoutMillis=5000",
            "coordinator.parentShardPollIntervalMillis=500",
            "coordinator.shardConsumerDispatchPollIntervalMillis=100",
            "polling.idleTimeBetweenReadsInMillis=250");

    private final Events events;
    private final Map<String, Object> groups = new TreeMap<>();

    Settings(Events events, CoordinatorConfig coordinator, LeaseManagementConfig lease, LifecycleConfig lifecycle,
            RetrievalConfig retrieval, PollingConfig polling) throws ReflectiveOperationException {
        this.events = events;
        groups.put("coordinator", coordinator);
        groups.put("lease", lease);
        groups.put("lifecycle", lifecycle);
        groups.put("retrieval", retrieval);
        groups.put("polling", polling);
        addPart(lease, "assignment", "workerUtilizationAwareAssignmentConfig");
        addPart(lease, "hand-off", "gracefulLeaseHandoffConfig");
        // Not on EC2 the library would look for the instance's metadata for ten seconds, and report nothing then.
        set("assignment.disableWorkerMetrics=true");
    }

    private void addPart(LeaseManagementConfig lease, String group, String accessor) throws ReflectiveOperationException {
        try {
            groups.put(group, LeaseManagementConfig.class.getMethod(accessor).invoke(lease));
        } catch (NoSuchMethodException e) {
            events.write("no_such_setting", "setting", group);
        }
    }

    void tune() throws ReflectiveOperationException {
        for (String setting : TUNED) {
            set(setting);
        }
    }

    /** Sets {@code GROUP.NAME=VALUE}; says so when this version does not know it. */
    void set(String setting) throws ReflectiveOperationException {
        String group = setting.substring(0, setting.indexOf('.'));
        String name = setting.substring(setting.indexOf('.') + 1, setting.indexOf('='));
        String value = setting.substring(setting.indexOf('=') + 1);
        Object target = groups.get(group);
        if (target == null || !(callSetter(target, name, value) || writeField(target, name, value))) {
            events.write("no_such_setting", "setting", setting);
        }
    }

    private static boolean callSetter(Object target, String name, String value) throws ReflectiveOperationException {
        for (Method method : target.getClass().getMethods()) {
            if (method.getName().equals(name) && method.getParameterCount() == 1) {
                Object parsed = parse(method.getParameterTypes()[0], value);
                if (parsed != null) {
                    method.invoke(target, parsed);
                    return true;
                }
            }
        }
        return false;
    }

    private static boolean writeField(Object target, String name, String value) throws ReflectiveOperationException {
        try {
            Field field = target.getClass().getDeclaredField(name);
            field.setAccessible(true);
            field.set(target, parse(field.getType(), value));
            return true;
        } catch (NoSuchFieldException e) {
            return false;
        }
    }

    private static Object parse(Class<?> type, String value) {
        if (type == long.class || type == Long.class) {
            return Long.valueOf(value);
        } else if (type == int.class || type == Integer.class) {
            return Integer.valueOf(value);
        } else if (type == double.class || type == Double.class) {
            return Double.valueOf(value);
        } else if (type == boolean.class || type == Boolean.class) {
            return Boolean.valueOf(value);
        } else if (type == Duration.class) {
            return Duration.ofMillis(Long.parseLong(value));
        } else if (type == String.class) {
            return value;
        }
        return null;
    }

    /** No pause between two GetRecords calls, where the version lets one say so; the smallest setting is 200 ms. */
    void withoutPause(PollingConfig polling) throws ReflectiveOperationException {
        try {
            Class<?> hook = Class.forName("software.amazon.kinesis.retrieval.polling.SleepTimeController");
            Object none = Proxy.newProxyInstance(hook.getClassLoader(), new Class<?>[] {hook},
                    (proxy, method, arguments) -> method.getReturnType() == long.class ? 0L : null);
            PollingConfig.class.getMethod("sleepTimeController", hook).invoke(polling, none);
        } catch (ClassNotFoundException e) {
            events.write("no_such_setting", "setting", "pause");
        }
    }
}
