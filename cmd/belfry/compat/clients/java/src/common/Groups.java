package belfry;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Two members share a topic of six partitions; one leaves, the other takes over. */
final class Groups {
    private static final int PARTITIONS = 6;
    /** Messages of a round, spread evenly over the partitions. */
    private static final int ROUND = 60;

    private final Node node;
    private final Release release;

    Groups(Node node, Release release) {
        this.node = node;
        this.release = release;
    }

    String eager() throws Exception {
        String[] settings = {"partition.assignment.strategy", "org.apache.kafka.clients.consumer.RoundRobinAssignor"};
        Group group = new Group("eager", classic(settings));
        try (Member a = group.join("a"); Member b = group.share(a)) {
            Check.that(a.revoked.size() >= PARTITIONS, "an eager member gave up %d partitions, want all", a.revoked.size());
            a.close();
            group.takeOver(b);
        }
        return null;
    }

    String cooperative() throws Exception {
        release.need("2.4", "cooperative rebalancing");
        String[] settings = {"partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"};
        Group group = new Group("cooperative", classic(settings));
        try (Member a = group.join("a"); Member b = group.share(a)) {
            Check.equal("number of partitions that the first member gave up", PARTITIONS / 2, a.revoked.size());
            a.close();
            group.takeOver(b);
            Check.equal("number of partitions that the second member gave up", 0, b.revoked.size());
        }
        return null;
    }

    /** A static member that comes back finds its partitions, without a rebalance of the others; a second one of its name ends it. */
    String fixed() throws Exception {
        release.need("2.3", "static members");
        Group group = new Group("static", classic());
        Member a = group.join("a", "group.instance.id", "a");
        Member b = group.share(a, "group.instance.id", "b");
        Set<TopicPartition> before = b.assigned();
        int rebalances = a.rebalances();
        b.close();
        try (Member again = group.member("b again", "group.instance.id", "b")) {
            Check.until("the static member has its partitions back", Node.STEP, () -> again.assigned().equals(before));
            Check.equal("number of rebalances of the other member", rebalances, a.rebalances());
            group.round(a, b, again);
            a.close(); // does not leave: its session has to end
            group.takeOver(again);
            try (Member thief = group.member("thief", "group.instance.id", "b")) {
                Throwable end = again.end();
                Check.that(end != null && end.getClass().getSimpleName().equals("FencedInstanceIdException"), "the member whose name was taken ended with %s", end);
                Check.until("the new member of that name has all partitions", Node.STEP, () -> thief.assigned().size() == PARTITIONS);
            }
        }
        return null;
    }

    /** From 4.0 on also a group whose members go over from the classic protocol one by one, and back. */
    String newProtocol() throws Exception {
        release.need("3.7", "the new protocol (KIP-848)");
        Group group = new Group("new", "group.protocol", "consumer");
        try (Member a = group.join("a"); Member b = group.share(a)) {
            Check.equal("number of partitions that the first member gave up", PARTITIONS / 2, a.revoked.size());
            a.close();
            group.takeOver(b);
        }
        if (!release.since("4.0")) return "Early access in this release.";
        for (String strategy : new String[] {"RangeAssignor", "CooperativeStickyAssignor"}) {
            String[] classic = classic("group.protocol", "classic", "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + strategy);
            Group mixed = new Group("mixed-" + strategy);
            try (Member a = mixed.join("a classic", classic); Member b = mixed.share(a, "group.protocol", "consumer")) {
                a.close();
                mixed.takeOver(b);
                try (Member c = mixed.member("c classic", classic)) {
                    mixed.both(b, c);
                    mixed.round(a, b, c);
                    b.close();
                    mixed.takeOver(c);
                }
            }
        }
        return null;
    }

    private static String[] classic(String... more) {
        return join(new String[] {"session.timeout.ms", "6000", "heartbeat.interval.ms", "200"}, more);
    }

    private static String[] join(String[] a, String[] b) {
        String[] all = java.util.Arrays.copyOf(a, a.length + b.length);
        System.arraycopy(b, 0, all, a.length, b.length);
        return all;
    }

    /** A group, its topic, and what was sent. */
    private final class Group {
        private final String name;
        private final String topic;
        private final String[] settings;
        private int sent;

        Group(String name, String... settings) throws Exception {
            this.name = node.name("group-" + name);
            this.topic = node.topic("group-" + name, PARTITIONS);
            this.settings = Groups.join(new String[] {"group.id", this.name, "metadata.max.age.ms", "1000"}, settings);
        }

        Member member(String id, String... more) {
            return new Member(id, node.consumer(Groups.join(settings, more)), topic);
        }

        /** The first member: it has all partitions and reads all. */
        Member join(String id, String... more) throws Exception {
            Member a = member(id, more);
            Check.until("the first member has all partitions", Node.STEP, () -> a.assigned().size() == PARTITIONS);
            round(a);
            return a;
        }

        /** The second member: both have half of the partitions and read their half. */
        Member share(Member a, String... more) throws Exception {
            Member b = member("b", more);
            both(a, b);
            round(a, b);
            Check.equal("messages that the second member read", ROUND / 2, b.records.size());
            return b;
        }

        /** Waits until two members have half of the partitions each. */
        void both(Member a, Member b) throws Exception {
            Check.until("both members have half of the partitions", Node.STEP, () -> {
                Set<TopicPartition> all = new HashSet<>(a.assigned());
                all.addAll(b.assigned());
                return all.size() == PARTITIONS && a.assigned().size() == PARTITIONS / 2 && b.assigned().size() == PARTITIONS / 2;
            });
        }

        /** The rest has left: one member has all partitions and reads all. */
        void takeOver(Member b) throws Exception {
            Check.until("the member that is left has all partitions", Node.STEP, () -> b.assigned().size() == PARTITIONS);
            int before = b.records.size();
            send();
            Check.until("the member that is left has read all", Node.STEP, () -> b.records.size() >= before + ROUND);
            Check.equal("messages that the member that is left read", before + ROUND, b.records.size());
        }

        private void send() throws Exception {
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int i = 0; i < ROUND; i++) records.add(new ProducerRecord<>(topic, i % PARTITIONS, null, Produce.utf8("value " + sent++)));
            try (KafkaProducer<byte[], byte[]> producer = node.producer()) {
                Node.send(producer, records);
            }
        }

        /** Sends some messages: the members have then seen each that was ever sent, and once. */
        void round(Member... members) throws Exception {
            send();
            Check.until("the members have read " + sent + " messages", Node.STEP, () -> {
                int seen = 0;
                for (Member member : members) seen += member.records.size();
                return seen >= sent;
            });
            TreeMap<String, Integer> times = new TreeMap<>();
            for (Member member : members) {
                for (ConsumerRecord<byte[], byte[]> record : member.records) {
                    times.merge(new String(record.value(), java.nio.charset.StandardCharsets.UTF_8), 1, Integer::sum);
                }
            }
            Check.equal("number of different messages", sent, times.size());
            times.forEach((value, count) -> Check.equal("times that " + value + " was read", 1, count));
        }
    }
}
