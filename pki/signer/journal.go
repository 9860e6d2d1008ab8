package signer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// JournalFile is the name of the journal in the CA directory.
const JournalFile = "journal.jsonl"

// Entry is one line of the journal: what was signed, for comparison with the
// controller's own tables and audit log. A line without a counterpart there
// was signed behind the controller's back, or its answer was lost.
type Entry struct {
	At         time.Time `json:"at"`
	What       string    `json:"what"` // a [Kind], "crl", "ssh-user", "ssh-host" or an [Action]
	Issuer     Issuer    `json:"issuer,omitempty"`
	Generation int       `json:"generation,omitempty"`
	KeyID      string    `json:"key_id,omitempty"`
	Serial     string    `json:"serial,omitempty"` // hex; of a CRL its number, decimal
	Subject    string    `json:"subject,omitempty"`
	Names      []string  `json:"names,omitempty"`
	NotAfter   time.Time `json:"not_after,omitzero"`
	Key        string    `json:"key,omitempty"` // SHA-256 of the certified key
	WireGuard  string    `json:"wireguard,omitempty"`
	By         string    `json:"by,omitempty"`
}

// journal appends lines; one is on the disk before what it tells of is handed
// out. Writers that come together share one sync.
type journal struct {
	mu      sync.Mutex
	done    *sync.Cond
	file    *os.File
	pending []byte
	written uint64 // lines handed to append
	synced  uint64 // lines on the disk
	busy    bool
	err     error // sticky: after a failed write the tail is unknown
}

func openJournal(dir string) (*journal, error) {
	path := filepath.Join(dir, JournalFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the signer's journal: %w", err)
	}
	if err := endLine(f); err != nil {
		return nil, errors.Join(fmt.Errorf("open the signer's journal: %w", err), f.Close())
	}
	j := &journal{file: f}
	j.done = sync.NewCond(&j.mu)
	return j, syncDir(dir)
}

// endLine closes a line that a power cut left open, so that the next one can be
// read; the piece stays for whoever looks.
func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err = f.Write([]byte("\n"))
	return err
}

func (j *journal) append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = append(append(j.pending, line...), '\n')
	j.written++
	mine := j.written
	for j.err == nil && j.synced < mine {
		if j.busy {
			j.done.Wait()
			continue
		}
		batch, upTo := j.pending, j.written
		j.pending, j.busy = nil, true
		j.mu.Unlock()
		_, err := j.file.Write(batch)
		if err == nil {
			err = j.file.Sync()
		}
		j.mu.Lock()
		j.busy = false
		if err != nil {
			j.err = fmt.Errorf("write the signer's journal: %w; nothing is signed until it is restarted", err)
		} else {
			j.synced = upTo
		}
		j.done.Broadcast()
	}
	return j.err
}

func (j *journal) close() error { return j.file.Close() }
