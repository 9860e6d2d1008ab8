package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge/fake"
	"github.com/wardnet/wardnet/inventory"
)

// act is one thing that a person, a device, the network or the machine does.
type act struct {
	Do   string
	N    int           // which device, which content, how many writes or seconds
	Wait time.Duration // that go by after it
}

func (a act) String() string { return fmt.Sprintf("%s(%d)+%s", a.Do, a.N, a.Wait) }

// deeds are what can be done, the common ones several times.
var deeds = []string{
	"revise", "revise", "revise", "careless", "start", "start", "start", "old", "pause", "resume", "abort",
	"unreachable", "reject", "lost", "slow", "slower", "unhealthy", "flap", "restart", "edit", "edit", "decide", "heal",
	"kill", "kill-write", "kill-write", "kill-call", "kill-call", "full", "murky",
}

func drawActs() *rapid.Generator[[]act] {
	one := rapid.Custom(func(t *rapid.T) act {
		waits := []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second, 40 * time.Second, 4 * time.Minute, 11 * time.Minute}
		return act{rapid.SampledFrom(deeds).Draw(t, "do"), rapid.IntRange(0, 39).Draw(t, "n"), rapid.SampledFrom(waits).Draw(t, "wait")}
	})
	return rapid.SliceOfN(one, 1, 24)
}

// contents are what revisions may say of one small town: as it is, all else, a
// site changed, and a ward that leaves with another that comes.
var contents = sync.OnceValue(func() []inventory.Inventory {
	const wards = 4
	without := func(ward int) inventory.Inventory {
		inv := town(wards)
		for i := range inv.Devices {
			if inv.Devices[i].Role != inventory.RoleHub {
				if ward == 0 {
					inv.Devices[i].Intended = inventory.Retired
				}
				ward--
			}
		}
		return inv
	}
	site := town(wards)
	for i := range site.Sites {
		if s := &site.Sites[i]; s.Kind != inventory.Hub {
			s.Segments = slices.Clone(s.Segments)
			for k := range s.Segments {
				if s.Segments[k].Kind == inventory.IoT {
					s.Segments[k].Unused = "cameras moved"
				}
			}
			break
		}
	}
	return []inventory.Inventory{town(wards), changed(wards), site, without(0), without(1)}
})

// The whole engine, under anything in any order: revisions come and are
// superseded, devices fail in every way, replies and processes are lost at any
// write and any call. What must never happen never does (see [plant]); and once
// the faults are over every rollout has ended as it may, and every device runs
// what is assigned to it.
func TestMachine(t *testing.T) {
	contents()
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Bool().Draw(rt, "from scratch")
		down := time.Duration(rapid.SampledFrom([]int{0, 5, 60}).Draw(rt, "restart after")) * time.Second
		resumes := rapid.IntRange(0, 3).Draw(rt, "resumes") > 0
		hands := rapid.IntRange(0, 63).Draw(rt, "edited by people") // which devices
		acts := drawActs().Draw(rt, "acts")
		var p *plant
		var verdict error
		synctest.Test(t, func(t *testing.T) {
			p = newPlant(newWorld(t, contents()[0]))
			p.down = down
			for i, d := range p.inventory {
				p.hand[d.ID] = hands&(1<<i) > 0
			}
			verdict = p.play(first, resumes, acts)
		})
		if verdict != nil {
			rt.Fatalf("%v\n%s", verdict, strings.Join(p.story, "\n"))
		}
	})
}

func (p *plant) play(scratch, resumes bool, acts []act) error {
	if err := p.boot(); err != nil {
		return err
	}
	defer func() {
		p.die()
		<-p.life.done
	}()
	if !scratch {
		if _, err := p.life.StartRollout(p.t.Context(), 1, "lan"); err != nil {
			return err
		}
		if err := p.pass(2 * time.Minute); err != nil {
			return err
		}
	}
	for _, a := range acts {
		p.say("%s", a)
		if err := p.do(a); err != nil {
			return err
		}
		if err := p.pass(a.Wait); err != nil {
			return err
		}
	}
	p.say("all is well now")
	p.watch.Lock()
	p.full, p.murky, p.blind, p.callsLeft = time.Time{}, time.Time{}, false, 0
	p.watch.Unlock()
	p.mu.Lock()
	p.killAt = 0
	p.mu.Unlock()
	for _, d := range p.inventory {
		p.heal(d.ID)
	}
	return p.settle(resumes)
}

// do does one thing. An error is one that must not come.
func (p *plant) do(a act) error {
	ctx := p.t.Context()
	id := p.inventory[a.N%len(p.inventory)].ID
	d := p.devices[id]
	var err error
	open := p.newestRollout()
	switch a.Do {
	case "revise", "careless":
		p.revise(contents()[a.N%len(contents())], a.Do == "revise")
	case "start":
		return p.start(ctx)
	case "old":
		if open.Revision > 1 {
			if _, err := p.life.StartRollout(ctx, open.Revision-1, "lan"); err == nil {
				return fmt.Errorf("revision %d goes out although %d did", open.Revision-1, open.Revision)
			}
		}
	case "pause":
		_, err = p.life.Pause(ctx, open.ID, "lan")
	case "resume":
		_, err = p.life.Resume(ctx, open.ID, "lan")
	case "abort":
		_, err = p.life.Abort(ctx, open.ID, "lan")
	case "unreachable":
		d.Break(fake.Faults{Unreachable: true})
		p.life.Down(id)
	case "reject":
		d.Break(fake.Faults{Reject: errors.New("out of memory")})
	case "lost":
		d.Break(fake.Faults{LoseReply: true})
	case "slow", "slower": // slower than a pass may take
		d.Break(fake.Faults{Delay: map[string]time.Duration{"slow": 3 * time.Second, "slower": 40 * time.Second}[a.Do]})
	case "unhealthy":
		down := map[string]bool{}
		for _, c := range contents() {
			for _, tn := range mustCompile(p.t, 1, c).Devices[id].Config.Tunnels {
				down[tn.Name] = true
			}
		}
		d.Break(fake.Faults{Down: down, Unhealthy: []string{"dns/10.64.0.53"}})
	case "flap": // a new session, that of a moment ago being over
		p.life.Down(id)
		p.life.Wake(id)
	case "restart":
		d.Restart()
		p.life.Down(id)
		p.life.Wake(id)
	case "edit":
		p.edit(id, a.N)
	case "decide":
		p.decide(a.N)
	case "heal":
		p.heal(id)
	case "kill":
		p.die()
	case "kill-write":
		p.mu.Lock()
		p.killAt = p.writes + a.N + 1
		p.mu.Unlock()
	case "kill-call":
		p.watch.Lock()
		p.callsLeft, p.after = a.N/2+1, a.N%2 == 0
		p.watch.Unlock()
	case "murky":
		p.watch.Lock()
		p.murky, p.blind = time.Now().Add(time.Duration(a.N+1)*time.Second), a.N%3 == 0
		p.watch.Unlock()
	case "full":
		p.watch.Lock()
		p.full = time.Now().Add(time.Duration(a.N+1) * time.Second)
		p.watch.Unlock()
	}
	if err != nil {
		p.say("%v", err) // at the wrong time, or dead: the end is what counts
	}
	return nil
}

// newestRollout is the zero value when there is none.
func (p *plant) newestRollout() Rollout {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rollouts) == 0 {
		return Rollout{ID: "none"}
	}
	return p.rollouts[len(p.rollouts)-1]
}

// revise stores a new revision, which another person approves or nobody does.
func (p *plant) revise(inv inventory.Inventory, approved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch.Lock()
	defer p.watch.Unlock()
	p.newest++
	p.world.revise(p.newest, inv)
	if p.asked[p.newest] = approved; !approved {
		p.approvals[p.newest][0].Approver = "lan" // the author
	}
}

// start rolls the newest revision out that a person made; one that nobody
// approved must be held.
func (p *plant) start(ctx context.Context) error {
	p.watch.Lock()
	n := p.newest
	for _, back := range p.returns {
		if n == back {
			n = 0
		}
	}
	approved := p.asked[n]
	p.watch.Unlock()
	if n == 0 {
		return nil // the newest is a return
	}
	_, err := p.life.StartRollout(ctx, n, "lan")
	switch {
	case err == nil && !approved:
		return fmt.Errorf("revision %d goes out unapproved", n)
	case err != nil && approved && !errors.Is(err, inventory.ErrConflict) && !errors.Is(err, errDead) && !errors.Is(err, errFull) && !errors.Is(err, errMurky):
		return err
	}
	p.say("start %d: %v", n, err)
	return nil
}

func (p *plant) heal(id inventory.DeviceID) {
	p.devices[id].Break(fake.Faults{})
	p.life.Wake(id)
}
