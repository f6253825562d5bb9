// Package suite names the client whose tests are run, so that its version and sums are pinned.
package suite

import _ "github.com/segmentio/kafka-go" // its tests are the suite
