package belfry;

/** Releases before 0.11 have no transactions. */
final class Transactions {
    Transactions(Node node, Release release) {}

    String copy() {
        throw new Absent("kafka-clients has transactions from 0.11 on");
    }
}
