package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/quorum"
)

// versionFeature holds the instance's Kafka version in the metadata, as a feature
// level that clients are not told of. Why there: the version belongs to the
// instance, not to a node's file, and cannot change once the instance is made.
const versionFeature = "belfry.instance.version"

// newestLevel stands for "newest"; a release is 100 × major + minor.
const newestLevel = 1

// fixVersion writes the instance's version down when the instance is new, and
// refuses to go on when the setting names another one later.
func (b *Broker) fixVersion(ctx context.Context, q *quorum.Quorum) error {
	want := versionLevel(b.values.String("version"))
	have := q.Image().Features()[versionFeature]
	if have == 0 {
		if _, err := q.Propose(ctx, []metadata.Record{&metadata.FeatureSet{Name: versionFeature, Level: want}}); err != nil {
			return fmt.Errorf("cannot write the instance's version down: %w", err)
		}
		return nil
	}
	return b.checkVersion(q.Image())
}

// errVersion is why a node of another version cannot take part.
var errVersion = errors.New("the instance has another Kafka version")

// checkVersion refuses an instance that was made with another version than the setting names.
func (b *Broker) checkVersion(img *metadata.Image) error {
	have := img.Features()[versionFeature]
	if have != versionLevel(b.values.String("version")) {
		return fmt.Errorf("cannot start: %w: it was made with %s, which cannot be changed, and the setting version says %s: set it back",
			errVersion, versionName(have), b.values.String("version"))
	}
	return nil
}

func versionLevel(version string) int16 {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err := strconv.Atoi(major)
	if err != nil {
		return newestLevel
	}
	n, err := strconv.Atoi(minor)
	if err != nil {
		return newestLevel
	}
	return int16(100*a + n)
}

func versionName(level int16) string {
	if level == newestLevel {
		return "newest"
	}
	return fmt.Sprintf("%d.%d", level/100, level%100)
}
