package scenario

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/labs/netlab"
)

// upgraded bounds one upgrade of one device, its transfer included.
const upgraded = 4 * time.Minute

// agentBinary is a build of the agent with the version it calls itself.
type agentBinary struct {
	version string
	content []byte
}

// readBinary reads an agent binary and asks it for its version.
func readBinary(ctx context.Context, path string) (agentBinary, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return agentBinary{}, fmt.Errorf("agent binary: %w", err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return agentBinary{}, fmt.Errorf("%w: agent binary: %w", inventory.ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version", "--json")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return agentBinary{}, fmt.Errorf("%w: ask %s for its version: %w: %s", inventory.ErrInvalid, path, err, strings.TrimSpace(said.String()))
	}
	var told struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(out.Bytes(), &told); err != nil || told.Version == "" {
		return agentBinary{}, fmt.Errorf("%w: %s told no version", inventory.ErrInvalid, path)
	}
	return agentBinary{told.Version, content}, nil
}

// exits are the machine's instructions for ending the process with status 1.
var exits = map[elf.Machine][]byte{
	elf.EM_X86_64:  {0xbf, 1, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05},              // mov edi, 1; mov eax, exit_group; syscall
	elf.EM_AARCH64: {0x20, 0, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4}, // mov x0, 1; mov x8, exit_group; svc 0
}

// broken is b under another version, made to exit as soon as it is started.
func (b agentBinary) broken() (agentBinary, error) {
	img, err := elf.NewFile(bytes.NewReader(b.content))
	if err != nil {
		return agentBinary{}, fmt.Errorf("%w: agent binary: %w", inventory.ErrInvalid, err)
	}
	defer img.Close()
	code, known := exits[img.Machine]
	for _, p := range img.Progs {
		if known && p.Type == elf.PT_LOAD && img.Entry >= p.Vaddr && img.Entry-p.Vaddr+uint64(len(code)) <= p.Filesz {
			out := bytes.Clone(b.content)
			copy(out[p.Off+img.Entry-p.Vaddr:], code)
			return agentBinary{b.version + "-broken", out}, nil
		}
	}
	return agentBinary{}, fmt.Errorf("%w: agent binary: its entry point is not found", inventory.ErrInvalid)
}

// agentUpgrade upgrades the agent of the first ward and offers it a broken one,
// while a ping runs; then brings back what ran before.
func agentUpgrade(ctx context.Context, p *play) error {
	if p.Agent == "" {
		return fmt.Errorf("%w: scenario %s needs a second build of the agent: --agent FILE", inventory.ErrInvalid, p.scenario.Name)
	}
	ward := p.wards()[0]
	own, err := readBinary(ctx, p.Lab.EdgeBinary())
	if err != nil {
		return err
	}
	next, err := readBinary(ctx, p.Agent)
	if err != nil {
		return err
	}
	if next.version == own.version {
		return fmt.Errorf("%w: both agents call themselves %s; build the second with -ldflags '-X main.version=…'", inventory.ErrInvalid, own.version)
	}
	bad, err := next.broken()
	if err != nil {
		return err
	}
	if err := p.addAgents(ctx, own, next, bad); err != nil {
		return err
	}
	all, stop, err := p.watch(ctx, ward)
	if err != nil {
		return err
	}
	defer stop()
	p.restore = append(p.restore, func(ctx context.Context) error { return p.ownAgent(ctx, ward, own.version) })
	if err := p.upgrades(ctx, all, next.version); err != nil {
		return err
	}
	err = p.refuses(ctx, all, next.version, bad.version)
	p.lossless()
	return err
}

// addAgents uploads binaries as the lab's administrator; the controller signs.
func (p *play) addAgents(ctx context.Context, all ...agentBinary) error {
	c, err := p.Lab.Administrator(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, b := range all {
		if _, err := c.AddAgent(ctx, b.version, b.content); err != nil {
			return fmt.Errorf("add agent %s: %w", b.version, err)
		}
	}
	return nil
}

// upgrade rolls a version out to one ward and waits for the end.
func (p *play) upgrade(ctx context.Context, ward netlab.Site, version string) (r client.AgentRollout, err error) {
	err = p.as(netlab.Engineer, func(c *client.Client) (err error) {
		r, err = c.StartAgentRollout(ctx, client.NewAgentRollout{Version: version, Devices: []inventory.DeviceID{ward.Device}, Reason: "lab " + p.scenario.Name})
		return err
	})
	if err != nil {
		return r, err
	}
	err = p.until(ctx, upgraded, "the upgrade", func(ctx context.Context) (bool, error) {
		return r.Ended != nil, p.as(netlab.Engineer, func(c *client.Client) (err error) {
			r, err = c.AgentRollout(ctx, r.ID)
			return err
		})
	})
	return r, err
}

// ownAgent brings the lab's own agent back, once what is under way has ended.
func (p *play) ownAgent(ctx context.Context, ward netlab.Site, version string) error {
	var r client.AgentRollout
	err := p.until(ctx, 2*upgraded, "the lab's own agent", func(ctx context.Context) (bool, error) {
		err := p.as(netlab.Engineer, func(c *client.Client) error {
			all, err := c.AgentRollouts(ctx)
			for _, o := range all {
				if o.Ended == nil {
					_, stop := c.ActAgentRollout(ctx, o.ID, "abort", "the scenario has ended")
					err = errors.Join(err, stop)
				}
			}
			return err
		})
		if err != nil {
			return false, err
		}
		r, err = p.upgrade(ctx, ward, version)
		if errors.Is(err, inventory.ErrConflict) { // a try has not ended yet
			return false, nil
		}
		return err == nil, err
	})
	if err == nil && r.State != "done" {
		err = fmt.Errorf("bring the agent of %s back: %s: %s", ward.Device, r.State, r.Reason)
	}
	return err
}

// upgrades expects a good version to be kept.
func (p *play) upgrades(ctx context.Context, all []watched, version string) error {
	ward := all[0].site
	begin := time.Now()
	var r client.AgentRollout
	err := p.through(ctx, "upgraded", unnoticed, 5*time.Second, all, func() (err error) {
		r, err = p.upgrade(ctx, ward, version)
		return err
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	runs, err := p.runs(ctx, ward, version)
	if err != nil {
		return err
	}
	p.event(Event{
		Name: "runs the new agent", OutageMS: took.Milliseconds(), ExpectedMS: upgraded.Milliseconds(),
		OK: r.State == "done" && r.Done == 1 && runs == version, Detail: fmt.Sprintf("%s %s; it says %s", r.State, r.Reason, runs),
	})
	return nil
}

// refuses expects the edge to take a broken version back by itself.
func (p *play) refuses(ctx context.Context, all []watched, version, bad string) error {
	ward := all[0].site
	begin := time.Now()
	var r client.AgentRollout
	err := p.through(ctx, "broken agent offered", unnoticed, 5*time.Second, all, func() (err error) {
		r, err = p.upgrade(ctx, ward, bad)
		return err
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	runs, err := p.runs(ctx, ward, version)
	if err != nil {
		return err
	}
	state := ""
	if len(r.Devices) == 1 {
		state = r.Devices[0].State
	}
	p.event(Event{
		Name: "went back by itself", OutageMS: took.Milliseconds(), ExpectedMS: upgraded.Milliseconds(),
		OK: r.State == "halted" && r.Reason != "" && state == "failed" && runs == version, Detail: fmt.Sprintf("%s: %s; it says %s", r.State, r.Reason, runs),
	})
	return nil
}

// runs waits a little until the ward's agent says it is version, and answers
// what it says.
func (p *play) runs(ctx context.Context, ward netlab.Site, version string) (string, error) {
	var d client.Device
	_ = p.until(ctx, 20*time.Second, "the agent's word", func(ctx context.Context) (ok bool, err error) {
		d, err = p.device(ctx, ward)
		return d.Connected && d.AgentVersion == version, err
	}) // what it says instead is what counts
	return d.AgentVersion, ctx.Err()
}
