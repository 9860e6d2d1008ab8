package controller

import (
	"crypto"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// settle waits until nothing moves any more, and looks at what there is.
func (p *plant) settle(resumes bool) error {
	if err := p.pass(p.down + 2*time.Second); err != nil { // it lives again
		return err
	}
	for quiet := 0; quiet < 2; quiet++ { // twice what a resync takes
		for begun := time.Now(); ; {
			if err := p.pass(10 * time.Second); err != nil {
				return err
			}
			if resumes {
				p.decide(0)
			}
			for _, r := range p.life.Controller.Rollouts() {
				if r.State == RolloutPaused && resumes {
					if _, err := p.life.Resume(p.t.Context(), r.ID, "lan"); err != nil {
						return err
					}
				}
			}
			if r := p.newestRollout(); !p.life.busy() || r.State == RolloutPaused && !resumes {
				break
			}
			if time.Since(begun) > 30*time.Minute {
				return fmt.Errorf("half an hour after the last fault a rollout is still under way: %+v", p.newestRollout())
			}
		}
		if err := p.pass(11 * time.Minute); err != nil {
			return err
		}
	}
	before := p.applies()
	for _, r := range p.rollouts {
		if err := p.ended(r, resumes); err != nil {
			return err
		}
	}
	for _, d := range p.inventory {
		if err := p.kept(d.ID); err != nil {
			return err
		}
	}
	if err := p.pass(25 * time.Minute); err != nil {
		return err
	}
	if now := p.applies(); now != before {
		return fmt.Errorf("%d pushes with nothing to do", now-before)
	}
	return nil
}

func (p *plant) applies() (n int) {
	for _, d := range p.devices {
		a, _ := d.Counts()
		n += a
	}
	return n
}

// ended says what is wrong with how a rollout ended.
func (p *plant) ended(r Rollout, resumes bool) error {
	switch {
	case r.State == RolloutDone, r.State == RolloutAborted, r.State == RolloutPaused && !resumes:
		return nil
	case r.State != RolloutHalted:
		return fmt.Errorf("the rollout of revision %d ended %s", r.Revision, r.State)
	case r.Base == 0 || r.Returns != "":
		return nil // nothing to return to
	}
	i := slices.IndexFunc(p.rollouts, func(o Rollout) bool { return o.Returns == r.ID })
	if i < 0 {
		return fmt.Errorf("the rollout of revision %d halted and nothing was returned", r.Revision)
	}
	back := p.rollouts[i]
	if r.Returned != (back.State == RolloutDone) {
		return fmt.Errorf("the rollout of revision %d halted, returned %v; the return is %s", r.Revision, r.Returned, back.State)
	}
	if a, b := mustCompile(p.t, 1, p.revisions[r.Base].Content), mustCompile(p.t, 1, p.revisions[back.Revision].Content); !sameHashes(a, b) {
		return fmt.Errorf("revision %d does not return the whole content of %d", back.Revision, r.Base)
	}
	return nil
}

func sameHashes(a, b *Compiled) bool {
	for id := range union(a.Devices, b.Devices) {
		if a.Devices[id].Hash != b.Devices[id].Hash {
			return false
		}
	}
	return true
}

// kept says what is wrong with what a device runs in the end.
func (p *plant) kept(id inventory.DeviceID) error {
	got, err := p.devices[id].Running(p.t.Context())
	if err != nil {
		return err
	}
	if pending, err := p.devices[id].Pending(p.t.Context()); err != nil || pending != "" {
		return fmt.Errorf("%s still waits for %q, %v", id, pending, err)
	}
	st, err := p.life.Status(id)
	if err != nil {
		return err
	}
	p.watch.Lock()
	_, silent := p.edited[id]
	foreign := got.Device != "" && !p.pushed[id][got.Hash]
	p.watch.Unlock()
	if err := p.onRecord(id); err != nil {
		return err
	}
	if foreign && !silent {
		return nil // it is told: a person decides
	}
	if got.Revision != 0 && !foreign {
		if err := got.Verify(map[string]crypto.PublicKey{"k": signer().Public()}); err != nil {
			return err
		}
		if why := p.unknown(intent.Number(got.Revision)); why != "" {
			return fmt.Errorf("%s runs revision %d, which %s", id, got.Revision, why)
		}
	}
	last := p.newestRollout()
	if n := st.Target.Revision; n == 0 && (last.State != RolloutDone || p.compiled(last.Revision).Devices[id].Hash == "") {
		return nil // nothing is assigned to it
	}
	if last.State == RolloutDone && (st.Target.Revision != last.Revision || got.Hash != p.compiled(last.Revision).Devices[id].Hash) {
		return fmt.Errorf("%s runs %d %.8s, assigned is %+v; revision %d is out everywhere", id, got.Revision, got.Hash, st.Target, last.Revision)
	}
	if st.InSync() && got.Hash == st.Hash {
		return nil
	}
	for _, r := range slices.Backward(p.rollouts) {
		if r.Revision == st.Target.Revision {
			if r.State == RolloutAborted || r.State == RolloutHalted || r.State == RolloutPaused {
				return nil // it is held
			}
			break
		}
	}
	return fmt.Errorf("%s runs %d %.8s, which is not what is assigned: %+v", id, got.Revision, got.Hash, st)
}

func (p *plant) compiled(n intent.Number) *Compiled {
	return mustCompile(p.t, n, p.revisions[n].Content)
}
