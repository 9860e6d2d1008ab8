package edge

import "fmt"

// Protocol is the version of what controller and agent say to each other:
// origins, documents, services and their meaning. It rises by one with a change
// that the other side must know of; one that it may ignore needs no new
// version. A field added to [Config] or [Credentials] is left out while it is
// empty, so that an older agent takes every document that does not use it; one
// that it does not know it refuses, for what is signed is obeyed whole.
//
//	0  agents that do not tell
//	1  tells protocol and version; Tools and OS services
const Protocol = 1

// ProtocolError says that an agent is too old or too new for this controller,
// which takes one version to either side. It wraps [ErrRejected].
type ProtocolError struct {
	Agent, Controller int
	Version           string // the agent's build; "": unknown
}

func (e *ProtocolError) Error() string {
	todo := "upgrade the agent first (wardnet agent)"
	if e.Agent > e.Controller {
		todo = "upgrade the controller first"
	}
	return fmt.Sprintf("the agent (version %q) speaks protocol %d, this controller %d and one to either side; %s", e.Version, e.Agent, e.Controller, todo)
}

// Unwrap makes the error an [ErrRejected].
func (e *ProtocolError) Unwrap() error { return ErrRejected }

// CheckProtocol is the controller's: nil when the agent that told s speaks its
// protocol version, the one before or the one after; else a [*ProtocolError].
func (s State) CheckProtocol() error {
	if s.Protocol < Protocol-1 || s.Protocol > Protocol+1 {
		return &ProtocolError{Agent: s.Protocol, Controller: Protocol, Version: s.Version}
	}
	return nil
}
