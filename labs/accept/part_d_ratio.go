package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wardnet/wardnet/pki/enrol"
)

// Sizes of the comparison: rounds of certificates by some workers.
const (
	ratioRounds  = 4
	ratioCerts   = 200
	ratioWorkers = 4
)

// sideBySide asks a real step-ca and our controller in turn, by the same client
// over HTTPS, with durable stores, for certificates on the same checks.
func sideBySide(ctx context.Context, e *env) (string, error) {
	b, err := newBench(ctx, e, 2*ratioRounds*ratioCerts)
	if err != nil {
		return "", err
	}
	defer b.end()
	if b.peer, err = e.startStepCA(ctx, filepath.Join(e.dir, "step-ca-bench")); err != nil {
		return "", err
	}
	defer b.peer.close()
	key, err := readTokenKey(b.dir)
	if err != nil {
		return "", err
	}
	kid, err := enrol.KeyID(&key.PublicKey)
	if err != nil {
		return "", err
	}
	const n = ratioRounds * ratioCerts
	devices := b.devices[:n]
	if err := b.prepare(ctx, devices); err != nil {
		return "", err
	}
	theirs, err := prepareStep(tokens{b.peer.key, b.peer.kid, b.peer.url}, keepAlive(b.peer.pool), 0, n)
	if err != nil {
		return "", err
	}
	peer := contender{name: "step-ca", pid: b.peer.pid, one: theirs.sign}
	us := func(one func(context.Context, int) error) contender {
		return contender{name: "wardnet", pid: b.serving.PID, one: one}
	}
	renewPeer := peer
	renewPeer.one = theirs.renew(b.peer.pool)

	var table []string
	var faults []error
	limit := func(what string, most float64, a, o measured) {
		ratio := o.perCert() / a.perCert()
		table = append(table, fmt.Sprintf("%s: step-ca %s; wardnet %s; CPU ratio %.2f", what, a, o, ratio))
		if ratio > most {
			faults = append(faults, fmt.Errorf("%s costs %.2f of step-ca's processor time, want at most %.2f", what, ratio, most))
		}
	}
	sign, enrolment, err := alternate(ctx, peer, us(func(ctx context.Context, i int) error { return b.enrol(ctx, devices[i]) }), ratioRounds, ratioCerts, ratioWorkers)
	if err != nil {
		return "", err
	}
	limit("enrolment", 1.0/3, sign, enrolment)
	for _, d := range devices {
		was := d.key
		if err := b.anew(d); err != nil {
			return "", err
		}
		d.pair.PrivateKey = was
	}
	renewed, renewal, err := alternate(ctx, renewPeer, us(func(ctx context.Context, i int) error { return b.renew(ctx, devices[i]) }), ratioRounds, ratioCerts, ratioWorkers)
	if err != nil {
		return "", err
	}
	limit("renewal", 1.0/3, renewed, renewal)
	again, err := prepareStep(tokens{b.peer.key, b.peer.kid, b.peer.url}, keepAlive(b.peer.pool), n, n)
	if err != nil {
		return "", err
	}
	ours, err := prepareStep(tokens{key, kid, "https://" + b.serving.CA}, b.open, 0, n)
	if err != nil {
		return "", err
	}
	peer.one = again.sign
	signAgain, step, err := alternate(ctx, peer, us(ours.sign), ratioRounds, ratioCerts, ratioWorkers)
	if err != nil {
		return "", err
	}
	table = append(table, fmt.Sprintf("step API: step-ca %s; wardnet %s; rate ratio %.2f", signAgain, step, step.rate()/signAgain.rate()))
	if step.rate() < signAgain.rate() {
		faults = append(faults, fmt.Errorf("the step API gives %.0f certificates/s, step-ca %.0f", step.rate(), signAgain.rate()))
	}
	figure := fmt.Sprintf("%d clients, %d certificates each: %s; load %s", ratioWorkers, n, strings.Join(table, "; "), loadAverage())
	if err := os.WriteFile(filepath.Join(e.root, "bin", "step-ca-side-by-side.txt"), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"+strings.Join(table, "\n")+"\n"), 0o644); err != nil {
		return figure, err
	}
	return figure, errors.Join(faults...)
}
