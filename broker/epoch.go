package broker

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// epochFile holds the epoch under which this broker was registered last, and how it
// ended (R14): "clean", or the boot of the operating system that it ran under. By it the
// broker says at its next registration whether all that it had is there still: after a
// clean stop it is, and after the death of the process alone too, because what was
// written lies in the page cache of the same boot.
const epochFile = "broker-epoch"

const (
	epochHead = "belfry broker epoch 1"
	endedWell = "clean"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bootID names the present boot of the operating system; "" if that is not known, or
// where the logs are not on a real disk.
func bootID(fs disk.FS) string {
	if _, real := fs.(disk.Real); !real {
		return ""
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // another system: only a clean stop counts
	}
	return strings.TrimSpace(string(b))
}

// previousEpoch gives the epoch of the registration before if all is there that the
// broker had then, else controller.NoEpoch.
//
// Errors: the disk's. A file that is damaged or absent says nothing.
func previousEpoch(fs disk.FS, dir, boot string) (epoch int64, err error) {
	err = inDir(fs, dir, func(d disk.Dir) error {
		b, err := disk.ReadFile(d, epochFile)
		if disk.IsAbsent(err) {
			epoch = controller.NoEpoch
			return nil
		}
		epoch = readEpoch(string(b), boot)
		return err
	})
	return epoch, err
}

// readEpoch reads what epochText writes.
func readEpoch(text, boot string) int64 {
	body, sum, ok := strings.Cut(text, "crc=")
	if !ok || sum != checksum(body) {
		return controller.NoEpoch
	}
	var epoch int64
	var state string
	if n, err := fmt.Sscanf(body, epochHead+"\nepoch=%d\nstate=%s\n", &epoch, &state); n != 2 || err != nil {
		return controller.NoEpoch
	}
	if state != endedWell && (boot == "" || state != boot) {
		return controller.NoEpoch
	}
	return epoch
}

func epochText(epoch int64, state string) string {
	body := fmt.Sprintf("%s\nepoch=%d\nstate=%s\n", epochHead, epoch, state)
	return body + "crc=" + checksum(body)
}

func checksum(body string) string {
	return fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body), castagnoli))
}

// noteEpoch writes down under which epoch the broker runs, or with endedWell that it
// stopped cleanly. On a full disk the file is removed instead: the next registration says that something may be
// missing, and no start waits for a free block.
func noteEpoch(fs disk.FS, dir string, epoch int64, state string) error {
	if state == "" {
		state = "unknown"
	}
	return inDir(fs, dir, func(d disk.Dir) error {
		err := disk.WriteAtomic(d, epochFile, []byte(epochText(epoch, state)))
		if disk.IsFull(err) {
			err = removeEpoch(d)
		}
		return err
	})
}

// forgetEpoch has the next registration say that something may be missing.
func forgetEpoch(fs disk.FS, dir string) error {
	return inDir(fs, dir, removeEpoch)
}

func removeEpoch(d disk.Dir) error {
	if err := d.Remove(epochFile); err != nil && !disk.IsAbsent(err) {
		return err
	}
	return d.Sync(".")
}

func inDir(fs disk.FS, dir string, do func(disk.Dir) error) error {
	d, err := fs.Open(dir)
	if err == nil {
		err = errors.Join(do(d), d.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot use file %q in %q: %w", epochFile, dir, err)
	}
	return nil
}
