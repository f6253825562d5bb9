package belfry;

import java.lang.reflect.Method;
import java.util.Collections;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** Asks for one partition's committed offset; the method for one is gone in 4.0, that for many came with 2.4. */
final class Committed {
    @SuppressWarnings("unchecked")
    static OffsetAndMetadata of(KafkaConsumer<byte[], byte[]> consumer, TopicPartition partition) throws Exception {
        for (Method method : KafkaConsumer.class.getMethods()) {
            if (!method.getName().equals("committed") || method.getParameterCount() != 1) continue;
            if (method.getParameterTypes()[0] == TopicPartition.class) return (OffsetAndMetadata) method.invoke(consumer, partition);
            return ((Map<TopicPartition, OffsetAndMetadata>) method.invoke(consumer, Collections.singleton(partition))).get(partition);
        }
        throw new IllegalStateException("this release has no method committed");
    }

    private Committed() {}
}
