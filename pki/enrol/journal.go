package enrol

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// timelineFile is the device's own timeline in its state directory.
const timelineFile = "ztp.json"

// repeatEvery is how often a line that only repeats is written again: a device
// that waits for days must not wear its flash out.
const repeatEvery = time.Minute

// Journal keeps a device's timeline in a file of a directory. It is safe for
// concurrent use; the zero Journal is not ready, see [OpenJournal].
type Journal struct {
	dir string

	mu    sync.Mutex
	t     Timeline
	wrote time.Time // zero: what is in memory is not on disk
	err   error
}

// OpenJournal takes up the timeline in dir. A file that cannot be read is
// begun anew: a story must keep no device from booting; Err tells.
func OpenJournal(dir string) *Journal {
	j := &Journal{dir: dir}
	t, err := ReadTimeline(dir)
	if err != nil && !errors.Is(err, inventory.ErrNotFound) {
		j.err = err
	}
	j.t = t
	return j
}

// ReadTimeline reads the timeline in dir; [inventory.ErrNotFound] when there is
// none.
func ReadTimeline(dir string) (Timeline, error) {
	path := filepath.Join(dir, timelineFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Timeline{}, fmt.Errorf("%w: no %s in %s", inventory.ErrNotFound, timelineFile, dir)
	}
	if err != nil {
		return Timeline{}, fmt.Errorf("read the boot timeline: %w", err)
	}
	var t Timeline
	if err := json.Unmarshal(text, &t); err != nil {
		return Timeline{}, fmt.Errorf("%w: the boot timeline %s is damaged: %w", inventory.ErrInvalid, path, err)
	}
	return t, nil
}

// Observe adds a step and writes the file.
func (j *Journal) Observe(s Step) {
	j.mu.Lock()
	defer j.mu.Unlock()
	repeated := j.t.same(s) >= 0
	j.t = j.t.with(s, maxOwn)
	if !repeated || time.Since(j.wrote) >= repeatEvery {
		j.write()
	}
}

// Begin starts the story of a new boot: it forgets one that has ended with a
// certificate, for the controller has it.
func (j *Journal) Begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := len(j.t.Steps) - 1
	for ; i >= 0; i-- {
		if s := j.t.Steps[i]; s.Name == StepCertificate && s.State == StepPassed {
			break
		}
	}
	if i < 0 {
		return
	}
	j.t = Timeline{slices.Clone(j.t.Steps[i+1:])}
	j.write()
}

// write puts the timeline on disk; j.mu is held.
func (j *Journal) write() {
	text, err := json.MarshalIndent(j.t, "", "  ")
	if err == nil {
		err = os.MkdirAll(j.dir, 0o700)
	}
	if err == nil {
		err = replaceFile(filepath.Join(j.dir, timelineFile), append(text, '\n'))
	}
	if err != nil {
		j.err = fmt.Errorf("keep the boot timeline: %w", err)
		return
	}
	j.wrote, j.err = time.Now(), nil
}

// Timeline is what was observed so far.
func (j *Journal) Timeline() Timeline {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Timeline{slices.Clone(j.t.Steps)}
}

// Err is what last went wrong with the file; nil when it holds everything.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}
