package belfry;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** One member of a group in a thread of its own; it commits what it has read before it polls again. */
final class Member implements ConsumerRebalanceListener, AutoCloseable {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final String topic;
    private final Thread thread;
    private volatile boolean leaving;
    private volatile Throwable error;
    private volatile Set<TopicPartition> assigned = Collections.emptySet();
    private volatile int rebalances;
    /** Partitions taken away, in order, over the member's life. */
    final List<TopicPartition> revoked = Collections.synchronizedList(new ArrayList<TopicPartition>());
    final ConcurrentLinkedQueue<ConsumerRecord<byte[], byte[]>> records = new ConcurrentLinkedQueue<>();

    Member(String name, KafkaConsumer<byte[], byte[]> consumer, String topic) {
        this.consumer = consumer;
        this.topic = topic;
        thread = new Thread(this::live, "member-" + name);
        thread.setDaemon(true);
        thread.start();
    }

    private void live() {
        try {
            consumer.subscribe(Collections.singletonList(topic), this);
            while (!leaving) {
                boolean some = false;
                for (ConsumerRecord<byte[], byte[]> record : Poll.once(consumer, 100)) {
                    records.add(record);
                    some = true;
                }
                if (some) consumer.commitSync();
                assigned = new HashSet<>(consumer.assignment());
            }
        } catch (Throwable e) {
            error = e;
        } finally {
            assigned = Collections.emptySet();
            consumer.close();
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        revoked.addAll(partitions);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        rebalances++; // only the member's own thread writes
    }

    /** Gives the partitions that are the member's now. */
    Set<TopicPartition> assigned() {
        Throwable e = error;
        if (e != null) throw new AssertionError(thread.getName() + " ended with " + e, e);
        return assigned;
    }

    int rebalances() {
        return rebalances;
    }

    /** Waits for the member's end and gives the error that ended it, null for none. */
    Throwable end() throws InterruptedException {
        thread.join(Node.STEP);
        Check.that(!thread.isAlive(), "%s has not ended", thread.getName());
        return error;
    }

    /** Leaves the group and waits for it. */
    @Override
    public void close() throws InterruptedException {
        leaving = true;
        end();
    }
}
