package belfry;

import java.util.Collections;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.common.TopicPartition;

final class Times {
    /** Gives the first offset at or after a time, null where there is none; the time found must not be before. */
    static Long offset(KafkaConsumer<byte[], byte[]> consumer, TopicPartition partition, long time) {
        OffsetAndTimestamp found = consumer.offsetsForTimes(Collections.singletonMap(partition, time)).get(partition);
        if (found == null) return null;
        Check.that(found.timestamp() >= time, "asked for time %d and got %d", time, found.timestamp());
        return found.offset();
    }

    private Times() {}
}
