package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/labs/sim"
)

// rollout208 pushes the city's first configuration, and then a change at every
// site, by the CLI, to simulated edges in a process of their own.
func rollout208(ctx context.Context, e *env) (string, error) {
	city := sample.City()
	s, err := startScaled(ctx, e, "rollout-208", "", city)
	if err != nil {
		return "", err
	}
	defer s.end()
	up, err := s.startEdges(ctx, 0, 3*time.Minute)
	if err != nil {
		return "", err
	}
	first, r, err := s.rollOut(ctx, "Cấu hình đầu tiên")
	if err == nil {
		err = verifiedWaves(r, len(city.Devices))
	}
	if err != nil {
		return "", fmt.Errorf("the first configuration: %w", err)
	}
	// One more port of what all offices reach: a rule of every ward and hub.
	i := slices.IndexFunc(city.Applications, func(a inventory.Application) bool { return a.ID == "van-ban" })
	city.Applications = slices.Clone(city.Applications)
	city.Applications[i].Ports = append(slices.Clone(city.Applications[i].Ports), inventory.PortRange{Proto: inventory.TCP, From: 8443, To: 8443})
	if err := s.importAll(ctx, city); err != nil {
		return "", err
	}
	change, r, err := s.rollOut(ctx, "Văn bản điều hành mở thêm cổng 8443")
	if err == nil {
		err = verifiedWaves(r, len(city.Devices))
	}
	if err != nil {
		return "", fmt.Errorf("the change: %w", err)
	}
	var waves []string
	for _, w := range r.Waves {
		waves = append(waves, fmt.Sprintf("%s %d/%d %.1f s", w.Name, w.Verified, len(w.Devices), w.Ended.Sub(*w.Started).Seconds()))
	}
	figure := fmt.Sprintf("change at every site %.1f s (%s); first configuration %.1f s; %d edges connected after %.1f s; load %s", change.Seconds(), strings.Join(waves, ", "), first.Seconds(), up.Edges, up.Seconds, loadAverage())
	if change >= time.Minute || first >= time.Minute {
		return figure, fmt.Errorf("not under 60 s: %s", figure)
	}
	return figure, nil
}

// rollOut makes a revision of the inventory in force, has the second engineer
// approve it and applies it, all by the CLI; the time is that of "wardnet
// apply", which waits for the end, and the rollout what "rollout status" says.
func (s *scaled) rollOut(ctx context.Context, message string) (time.Duration, client.Rollout, error) {
	var p client.Plan
	var approved intent.Approval
	var applied, r client.Rollout
	if err := s.cli(ctx, engineer, &p, "plan", "--message", message, "--json"); err != nil {
		return 0, r, err
	}
	if !p.Proof.Holds {
		return 0, r, fmt.Errorf("the proof of revision %d does not hold: %s", p.Revision, p.Proof.Why)
	}
	n := strconv.FormatUint(uint64(p.Revision), 10)
	if err := s.cli(ctx, second, &approved, "approve", n, "--hash", p.Hash, "--json"); err != nil {
		return 0, r, err
	}
	begin := time.Now()
	if err := s.cli(ctx, engineer, &applied, "apply", n, "--json"); err != nil {
		return 0, r, err
	}
	took := time.Since(begin)
	err := s.cli(ctx, engineer, &r, "rollout", "status", "--json")
	if err == nil && (r.ID != applied.ID || r.Revision != p.Revision) {
		err = fmt.Errorf("rollout status shows %s of revision %d, applied was %s", r.ID, r.Revision, applied.ID)
	}
	return took, r, err
}

// verifiedWaves holds a rollout to its word: the hubs' waves, then four of
// wards, every device of the city in one of them and verified.
func verifiedWaves(r client.Rollout, devices int) error {
	var errs []error
	hubs, wards, seen := 0, 0, map[inventory.DeviceID]bool{}
	for _, w := range r.Waves {
		switch {
		case strings.HasPrefix(w.Name, "wards-"):
			wards++
		case wards > 0:
			errs = append(errs, fmt.Errorf("wave %s comes after wards", w.Name))
		default:
			hubs++
		}
		for _, d := range w.Devices {
			seen[d] = true
		}
		if w.State != "done" || w.Verified != len(w.Devices) || w.Failed+w.Pending > 0 || w.Started == nil || w.Ended == nil {
			errs = append(errs, fmt.Errorf("wave %s is %s: %d of %d verified, %d failed, %d pending", w.Name, w.State, w.Verified, len(w.Devices), w.Failed, w.Pending))
		}
	}
	if r.State != "done" || hubs != 2 || wards != 4 || len(seen) != devices {
		errs = append(errs, fmt.Errorf("the rollout is %s: %d hub waves, %d ward waves, %d of %d devices", r.State, hubs, wards, len(seen), devices))
	}
	return errors.Join(errs...)
}

// manyChannels is what is asked of a controller with many connected devices.
type manyChannels struct {
	devices    int
	resync     time.Duration // full read-back of each, at least so often
	steady     time.Duration // measured so long, longer than resync
	flap       float64       // ratio of the devices per minute
	handshakes int           // per second, that the configuration allows; all come from addresses of their own
	cpu        float64       // of one core, at most; 0: not asked for
	rssMB      float64       // MB, at most; 0: not asked for
	back       time.Duration // all are back after a restart
}

// run enrols and configures the devices, then measures.
func (m manyChannels) run(ctx context.Context, e *env) (string, error) {
	inv, err := nation(m.devices)
	if err != nil {
		return "", err
	}
	// Rollout limits are per wave, and the last one holds nine in ten devices.
	// Telemetry of a nation is other collectors' work.
	more := fmt.Sprintf("log_level: warn\nmemory_mib: 1300\ncontroller: {resync: %s, parallel: 256, poll: 1s, pass: 2m, revert: 3m, wave: 1h}\nchannel: {handshakes_per_second: %d}\ntelemetry: {off: true}\n", m.resync, m.handshakes)
	begin := time.Now()
	s, err := startScaled(ctx, e, fmt.Sprintf("channel-%d", m.devices), more, inv)
	if err != nil {
		return "", err
	}
	defer s.end()
	imported := time.Since(begin)
	up, err := s.startEdges(ctx, 0, 30*time.Minute, "--spread")
	if err != nil {
		return "", err
	}
	begin = time.Now()
	if err := s.configure(ctx); err != nil {
		return "", err
	}
	took := time.Since(begin)
	peak, err := peakOf(s.serving.PID)
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("import %.0f s, enrolment of %d %.0f s, first rollout %.0f s and at most %.0f MB until then", imported.Seconds(), m.devices, up.Seconds, took.Seconds(), peak)
	calm, err := m.watch(ctx, s)
	figure += "; " + calm
	if err != nil {
		return figure, err
	}
	back, err := m.comeBack(ctx, s)
	return figure + "; " + back, err
}

// configure rolls the inventory out to all; how fast is another check's
// question.
func (s *scaled) configure(ctx context.Context) error {
	rev, err := s.engineer.CreateRevision(ctx, client.NewRevision{Message: "Cấu hình đầu tiên"})
	if err != nil {
		return err
	}
	if _, err := s.approver.Approve(ctx, rev.Number, client.NewApproval{Hash: rev.Hash}); err != nil {
		return err
	}
	r, err := s.engineer.StartRollout(ctx, rev.Number)
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if r, err = s.engineer.Rollout(ctx, r.ID); err != nil {
			return err
		}
		switch {
		case r.State == "done" && r.Done == r.Total:
			return nil
		case r.Ended != nil:
			return fmt.Errorf("the rollout ended as %s, %d of %d: %s", r.State, r.Done, r.Total, r.Reason)
		}
	}
}

const (
	same     = `controller_passes_total{outcome="same"}`
	accepted = `channel_handshakes_total{outcome="accepted"}`
	begun    = "channel_handshakes_begun_total"
	allowed  = "channel_handshakes_per_second_limit"
	sessions = "channel_sessions"
	oldest   = "controller_readback_oldest_seconds"
)

// How often the series are read, and how much later than asked for a read-back
// may end: it takes a moment itself.
const (
	scrapes = 15 * time.Second
	late    = 5 * time.Second
)

// watch measures the steady state.
func (m manyChannels) watch(ctx context.Context, s *scaled) (string, error) {
	if _, err := sim.Send(ctx, s.control, sim.Request{Op: sim.OpFlap, Ratio: m.flap}); err != nil {
		return "", err
	}
	select { // what the rollout left is no part of it
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(30 * time.Second):
	}
	pid := s.serving.PID
	before, err := s.series(ctx)
	if err != nil {
		return "", err
	}
	sims, err := s.stats(ctx)
	if err != nil {
		return "", err
	}
	from, err := usedBy(pid)
	if err != nil {
		return "", err
	}
	begin, load := time.Now(), loadAverage()
	most, fewest, stalest, scraped := from.rss, before[sessions], before[oldest], begin
	for time.Since(begin) < m.steady {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Second):
		}
		now, err := usedBy(pid)
		if err != nil {
			return "", err
		}
		most = max(most, now.rss)
		if time.Since(scraped) < scrapes {
			continue
		}
		scraped = time.Now()
		seen, err := s.series(ctx)
		if err != nil {
			return "", err
		}
		fewest, stalest = min(fewest, seen[sessions]), max(stalest, seen[oldest])
	}
	to, err := usedBy(pid)
	if err != nil {
		return "", err
	}
	took := time.Since(begin)
	after, err := s.series(ctx)
	if err != nil {
		return "", err
	}
	simsAfter, err := s.stats(ctx)
	if err != nil {
		return "", err
	}
	fewest, stalest = min(fewest, after[sessions]), max(stalest, after[oldest])
	cpu, rss := (to.cpu-from.cpu)/took.Seconds(), float64(most)/1e6
	reads, dropped, again := after[same]-before[same], float64(simsAfter.Dropped-sims.Dropped), after[accepted]-before[accepted]
	figure := fmt.Sprintf("%.0f s: controller %.1f %% of a core, at most %.0f MB; %.0f read-backs, none older than %.0f s; %.0f connections dropped, %.0f new ones, %.0f of %d connected at least; edges' process %.0f MiB; load %s", took.Seconds(), 100*cpu, rss, reads, stalest, dropped, again, fewest, m.devices, simsAfter.RSSMB, load)
	var errs []error
	if want := float64(m.devices) * float64(took/m.resync); reads < want { // whole periods
		errs = append(errs, fmt.Errorf("%.0f read-backs, want at least %.0f", reads, want))
	}
	if stalest <= 0 || stalest > (m.resync+late).Seconds() { // each, and not only as many
		errs = append(errs, fmt.Errorf("a device was read back %.0f s ago, want each within %s", stalest, m.resync))
	}
	if want := 0.8 * m.flap * float64(m.devices) * took.Minutes(); dropped < want || again < want {
		errs = append(errs, fmt.Errorf("%.0f connections dropped and %.0f made, want at least %.0f", dropped, again, want))
	}
	if fewest < 0.98*float64(m.devices) {
		errs = append(errs, fmt.Errorf("%.0f of %d devices are connected", fewest, m.devices))
	}
	if m.cpu > 0 && cpu >= m.cpu {
		errs = append(errs, fmt.Errorf("%.1f %% of a core is not under %.0f %%", 100*cpu, 100*m.cpu))
	}
	if m.rssMB > 0 && rss >= m.rssMB {
		errs = append(errs, fmt.Errorf("%.0f MB is not under %.0f MB", rss, m.rssMB))
	}
	return figure, errors.Join(errs...)
}

// comeBack restarts the controller and waits until all devices are connected,
// and counts the handshakes of each second.
func (m manyChannels) comeBack(ctx context.Context, s *scaled) (string, error) {
	if _, err := sim.Send(ctx, s.control, sim.Request{Op: sim.OpFlap}); err != nil {
		return "", err
	}
	begin, err := s.restart(ctx)
	if err != nil {
		return "", err
	}
	serving := time.Since(begin)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var fastest, made float64
	asked, told := begin, begin // the scrape before: no later than asked, no earlier than told
	for {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-tick.C:
		}
		ask := time.Now()
		now, err := s.series(ctx)
		if err != nil {
			return "", err
		}
		tell := time.Now()
		fresh := now[begun] - made
		fastest = max(fastest, fresh/tell.Sub(told).Seconds())
		took := time.Since(begin)
		figure := fmt.Sprintf("restart: serving after %.1f s, %.0f of %d back after %.1f s, at most %.0f handshakes in a second of %d allowed, %.0f in all, %.0f accepted", serving.Seconds(), now[sessions], m.devices, took.Seconds(), fastest, m.handshakes, now[begun], now[accepted])
		switch limit := float64(m.handshakes); {
		case now[allowed] != limit:
			return figure, fmt.Errorf("%s says %.0f, configured is %.0f", allowed, now[allowed], limit)
		// A turn is taken before one of the few handshakes at once is free, so some
		// begin a moment later than the pace let them.
		case fresh > 1.25*limit*tell.Sub(asked).Seconds()+limit/10:
			return figure, fmt.Errorf("%.0f handshakes within %s, %.0f a second are allowed", fresh, tell.Sub(asked), limit)
		case now[sessions] >= float64(m.devices):
			return figure, nil
		case took >= m.back:
			return figure, fmt.Errorf("not all are back within %s", m.back)
		}
		made, asked, told = now[begun], ask, tell
	}
}
