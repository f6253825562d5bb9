package belfry;

/** The release does not have the feature. */
final class Absent extends RuntimeException {
    Absent(String why) {
        super(why);
    }
}
