package console

import (
	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/controller/proof"
)

// proofOf writes a proof for the API.
func proofOf(p controller.Proof) client.Proof {
	out := client.Proof{
		Holds: p.Holds && p.Why == "", Why: p.Why, Intents: p.Intents, States: p.States, Pairs: p.Pairs, Seconds: p.Took.Seconds(),
		Counterexamples: []client.Counterexample{}, Risks: []client.ProofRisk{},
	}
	for _, c := range p.Counterexamples {
		out.Counterexamples = append(out.Counterexamples, counterexample(c, true))
	}
	for _, c := range p.Unreached {
		out.Counterexamples = append(out.Counterexamples, counterexample(c, false))
	}
	for _, r := range p.Risks {
		out.Risks = append(out.Risks, client.ProofRisk(r))
	}
	return out
}

func counterexample(c proof.Counterexample, passes bool) client.Counterexample {
	x := client.Counterexample{Intent: c.Intent, Passes: passes, Path: []client.ProofStep{}}
	if c.Packet.Src.IsValid() {
		x.Packet = &client.ProofPacket{
			Src: c.Packet.Src, Dst: c.Packet.Dst, Proto: c.Packet.Proto, SPort: c.Packet.SPort, DPort: c.Packet.DPort, Type: c.Packet.Type,
		}
	}
	for _, s := range c.Path {
		x.Path = append(x.Path, client.ProofStep(s))
		x.Line = s.String()
	}
	return x
}

func flowsOf(all []proof.Flow) []client.FlowChange {
	out := []client.FlowChange{}
	for _, f := range all {
		out = append(out, client.FlowChange(f))
	}
	return out
}
