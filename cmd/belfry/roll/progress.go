package roll

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// progress is what the file holds.
type progress struct {
	Version int       `json:"version"`
	Cluster string    `json:"cluster_id"`
	Began   time.Time `json:"began"`
	Done    []int32   `json:"done"`
	Current *begun    `json:"current,omitempty"` // the one that was begun and is not back yet
}

const progressVersion = 1

// readProgress reads the file; resumed is false if there is none.
//
// Errors: the file's; it is of another cluster.
func readProgress(path, cluster string) (p progress, resumed bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return progress{Version: progressVersion, Cluster: cluster, Began: time.Now().UTC().Truncate(time.Second)}, false, nil
	}
	if err != nil {
		return p, false, fmt.Errorf("cannot read the progress of a restart: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil || p.Version != progressVersion {
		return p, false, fmt.Errorf("cannot read the progress of a restart in %q: it was not written by this program; delete it to begin anew", path)
	}
	if p.Cluster != cluster {
		return p, false, fmt.Errorf("cannot go on with %q: it is of cluster %q, this is %q", path, p.Cluster, cluster)
	}
	return p, true, nil
}

// write replaces the file as a whole, on the disk before it returns.
func (p progress) write(path string) (err error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot note the progress of the restart in %q: %w", path, err)
		}
	}()
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
