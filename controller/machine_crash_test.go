package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// death says where in a story the process dies; the zero value: nowhere.
type death struct {
	write, call int  // the n-th durable write, or the n-th call to a device, counted from 1
	kept        bool // the write reached the disk, the call the device
}

// A process that dies at any write or any call of a rollout, whether that was
// carried out or not, ends where one ends that does not die: all devices run the
// new content; or where one of them refuses it, all run the old.
func TestCrashAtEachStep(t *testing.T) {
	for name, refuses := range map[string]bool{"done": false, "returned": true} {
		t.Run(name, func(t *testing.T) {
			writes, calls, err := tale(t, refuses, death{})
			if err != nil {
				t.Fatal(err)
			}
			deaths := make([]death, 0, 2*(writes+calls))
			for _, kept := range []bool{false, true} {
				for n := range writes {
					deaths = append(deaths, death{write: n + 1, kept: kept})
				}
				for n := range calls {
					deaths = append(deaths, death{call: n + 1, kept: kept})
				}
			}
			for _, d := range deaths {
				if _, _, err := tale(t, refuses, d); err != nil {
					t.Fatalf("%+v: %v", d, err)
				}
			}
			t.Logf("%d writes and %d calls, each lost and carried out", writes, calls)
		})
	}
}

// tale rolls revision 2 out over revision 1 and counts what that takes.
func tale(t *testing.T, refuses bool, d death) (writes, calls int, err error) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(newWorld(t, town(3), changed(3)))
		p.down = 5 * time.Second
		if err = p.tell(refuses, d, &writes, &calls); err != nil {
			err = fmt.Errorf("%w\n%s", err, strings.Join(p.story, "\n"))
		}
	})
	return writes, calls, err
}

func (p *plant) tell(refuses bool, d death, writes, calls *int) error {
	if err := p.boot(); err != nil {
		return err
	}
	defer func() {
		p.die()
		<-p.life.done
	}()
	if _, err := p.life.StartRollout(p.t.Context(), 1, "lan"); err != nil {
		return err
	}
	if err := p.pass(time.Minute); err != nil {
		return err
	}
	if refuses {
		var last inventory.DeviceID
		plan, err := p.life.Controller.Plan(p.t.Context(), 2)
		if err != nil {
			return err
		}
		for _, w := range plan.Waves {
			last = w.Devices[0]
		}
		p.devices[last].Break(fake.Faults{Reject: errors.New("no such interface")})
	}
	p.mu.Lock()
	if d.write > 0 {
		if kept := (p.writes+d.write)%2 == 0; kept != d.kept { // as [life.write] tells them apart
			p.writes++
		}
		p.killAt = p.writes + d.write
	}
	before := p.writes
	p.mu.Unlock()
	p.watch.Lock()
	p.callsLeft, p.after, p.calls = d.call, d.kept, 0
	p.watch.Unlock()
	_, failed := p.life.StartRollout(p.t.Context(), 2, "lan")
	if err := p.pass(10 * time.Minute); err != nil {
		return err
	}
	p.mu.Lock()
	*writes, *calls = p.writes-before, p.calls
	armed, state := p.killAt, []RolloutState{}
	for _, r := range p.rollouts {
		state = append(state, r.State)
	}
	p.mu.Unlock()
	if armed != 0 {
		return fmt.Errorf("only %d writes; it was to die at one after them", *writes)
	}
	if err := p.settle(true); err != nil {
		return err
	}
	want, content := "[done done]", intent.Number(2)
	switch {
	case failed != nil && len(state) == 1:
		want, content = "[done]", 1 // nothing was stored, and the person was told
	case refuses:
		want, content = "[done halted done]", 1
	}
	if fmt.Sprint(state) != want {
		return fmt.Errorf("the rollouts are %v after 10 minutes, want %s", state, want)
	}
	return p.inSync(content)
}
