package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/agent/disk"
	"github.com/wardnet/wardnet/edge/upgrade"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/pki/enrol"
)

// status is what the state directory tells.
type status struct {
	Running  bool      `json:"running"` // an agent runs on this directory now
	Identity *identity `json:"identity,omitempty"`
	Revision uint64    `json:"revision"` // confirmed; 0: none
	Hash     string    `json:"hash,omitempty"`
	Highest  uint64    `json:"highest_revision"` // ever confirmed; older ones are refused
	Pending  *pending  `json:"pending,omitempty"`
	// LastRevert is the latest commit the device took back.
	LastRevert *edge.Reverted `json:"last_revert,omitempty"`
	Epoch      uint64         `json:"credentials_epoch"`
	Peers      int            `json:"peers"`
	// Agent is what the journal of binaries says: the confirmed slot, what is on
	// trial, and what was taken back last.
	Agent binaries `json:"agent"`
}

type binaries struct {
	Slot    string           `json:"slot"`              // confirmed: "base", "a" or "b"
	Version string           `json:"version,omitempty"` // of a or b
	Try     *upgrade.Try     `json:"try,omitempty"`
	Failed  *upgrade.Failure `json:"failed,omitempty"`
}

func binariesOf(j upgrade.Journal) binaries {
	b := binaries{Slot: cmp.Or(j.Current, upgrade.Base), Try: j.Try, Failed: j.Failed}
	b.Version = j.Slots[b.Slot].Release.Version
	return b
}

func (b binaries) String() string {
	text := "slot " + b.Slot
	if b.Slot == upgrade.Base {
		text = "the one that came with the box"
	} else if b.Version != "" {
		text += ", version " + b.Version
	}
	if t := b.Try; t != nil {
		text += fmt.Sprintf("\n             on trial: version %s, commit %s, %s from %s", t.Version, t.Commit, t.Revert, t.At.Format(time.RFC3339))
	}
	if f := b.Failed; f != nil {
		text += fmt.Sprintf("\n             taken back: version %s, at %s: %s", f.Version, f.At.Format(time.RFC3339), f.Why)
	}
	return text
}

type pending struct {
	ID       edge.CommitID `json:"id"`
	Revision uint64        `json:"revision"`
	Deadline time.Time     `json:"deadline"`
}

func (s status) String() string {
	var b strings.Builder
	if s.Identity == nil {
		b.WriteString("device       not enrolled\n")
	} else {
		fmt.Fprintln(&b, s.Identity)
	}
	fmt.Fprintf(&b, "agent        %s\n", map[bool]string{true: "running", false: "not running"}[s.Running])
	fmt.Fprintf(&b, "binary       %s\n", s.Agent)
	if s.Revision == 0 {
		b.WriteString("revision     none\n")
	} else {
		fmt.Fprintf(&b, "revision     %d (%.12s), highest confirmed %d\n", s.Revision, s.Hash, s.Highest)
	}
	if p := s.Pending; p != nil {
		fmt.Fprintf(&b, "on trial     revision %d, commit %s, until %s\n", p.Revision, p.ID, p.Deadline.Format(time.RFC3339))
	}
	if r := s.LastRevert; r != nil {
		fmt.Fprintf(&b, "taken back   revision %d, commit %s, at %s: %s\n", r.Revision, r.Commit, r.At.Format(time.RFC3339), r)
	}
	fmt.Fprintf(&b, "credentials  epoch %d, %d peers", s.Epoch, s.Peers)
	return b.String()
}

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show identity, configuration and credentials from the state directory",
		Example: "  wardnet-edge status --state /var/lib/wardnet-edge --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := os.Stat(a.state); err != nil {
				return fmt.Errorf("state directory: %w; give the right one with --state", err)
			}
			s, err := readStatus(a.state)
			return errors.Join(a.print(c, s), err) // what could be read, and what could not
		},
	}
}

func readStatus(path string) (status, error) {
	var s status
	var errs []error
	id, err := enrol.Load(agent.IdentityDir(path))
	switch {
	case err == nil:
		i := identityOf(id)
		s.Identity = &i
	case !errors.Is(err, inventory.ErrNotFound):
		errs = append(errs, err)
	}
	dir, err := disk.Open(disk.OS{}, path)
	if err != nil {
		return s, errors.Join(append(errs, err)...)
	}
	state, err := dir.Peek()
	errs = append(errs, err)
	s.Revision, s.Hash, s.Highest = state.Running.Revision, state.Running.Hash, state.Highest
	s.LastRevert = state.LastRevert
	s.Epoch, s.Peers = state.Credentials.Epoch, len(state.Credentials.Keys)
	if p := state.Pending; p != nil {
		s.Pending = &pending{ID: p.ID, Revision: p.Want.Revision, Deadline: p.Deadline.UTC()}
	}
	journal, err := upgrade.Peek(path)
	errs = append(errs, err)
	s.Agent = binariesOf(journal)
	s.Running, err = disk.Locked(path)
	errs = append(errs, err)
	return s, errors.Join(errs...)
}
