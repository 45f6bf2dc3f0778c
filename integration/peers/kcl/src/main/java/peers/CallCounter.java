package peers;

import java.util.Locale;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.core.interceptor.SdkExecutionAttribute;

/** Counts HTTP attempts, retries included, and calls that failed. */
final class CallCounter implements ExecutionInterceptor {
    private final Events events;

    CallCounter(Events events) {
        this.events = events;
    }

    @Override
    public void beforeTransmission(Context.BeforeTransmission context, ExecutionAttributes attributes) {
        events.called(operation(attributes));
    }

    @Override
    public void onExecutionFailure(Context.FailedExecution context, ExecutionAttributes attributes) {
        Throwable cause = context.exception();
        while (cause.getCause() != null && !cause.getClass().getSimpleName().endsWith("Exception")) {
            cause = cause.getCause();
        }
        events.failed(operation(attributes), cause.getClass().getSimpleName());
    }

    private static String operation(ExecutionAttributes attributes) {
        String service = attributes.getAttribute(SdkExecutionAttribute.SERVICE_NAME).toLowerCase(Locale.ROOT);
        return service + "." + attributes.getAttribute(SdkExecutionAttribute.OPERATION_NAME);
    }
}
