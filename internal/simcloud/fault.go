package simcloud

import (
	"strings"
	"time"
)

// FaultKind is a way in which a request can go wrong.
type FaultKind int

const (
	// Refuse answers with Code and does nothing.
	Refuse FaultKind = iota + 1
	// DropBefore closes the connection and does nothing.
	DropBefore
	// LoseReply does what was asked and closes the connection without an answer.
	LoseReply
	// CutReply does what was asked and closes the connection in the middle of the answer; over gRPC it is LoseReply.
	CutReply
	// CommitLate returns no answer until the caller has gone, and does what was asked when Release is closed.
	CommitLate
	// Hold waits for Release, then goes on as if nothing had been.
	Hold
)

// Fault makes requests fail. Service, Method and Target choose them; an empty one matches all, Target is matched
// as a part of the target.
type Fault struct {
	Service, Method, Target string
	// Except lets requests through whose target holds it.
	Except string
	// Skip lets that many matching requests through first.
	Skip int
	// Times is how many requests fail; 0 means all.
	Times int
	Kind  FaultKind
	// Code is the HTTP status of a Refuse; gRPC services translate it.
	Code int
	// RetryAfter goes with a 429 or 503, in whole seconds.
	RetryAfter time.Duration
	// Release lets CommitLate and Hold go on when it is closed.
	Release chan struct{}
	// Reached, if set, is closed when a request runs into the fault. Use it with Times 1.
	Reached chan struct{}
	// Done, if set, is closed when a CommitLate has done what was asked.
	Done chan struct{}

	failed int
}

// Failure says to a transport how to answer.
type Failure struct {
	// Drop closes the connection without an answer.
	Drop bool
	// Cut closes it in the middle of the answer.
	Cut bool
	// Code is an HTTP status.
	Code       int
	RetryAfter time.Duration
}

// Inject adds a fault. The returned function takes it away.
func (c *Cloud) Inject(f Fault) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &f
	c.faults = append(c.faults, p)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, o := range c.faults {
			if o == p {
				c.faults = append(c.faults[:i], c.faults[i+1:]...)
				return
			}
		}
	}
}

// take finds the first fault that a request runs into.
func (c *Cloud) take(service, method, target string) *Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.faults {
		if f.Service != "" && f.Service != service || f.Method != "" && f.Method != method || !strings.Contains(target, f.Target) || f.Except != "" && strings.Contains(target, f.Except) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 && f.failed >= f.Times {
			continue
		}
		f.failed++
		return f
	}
	return nil
}

// Spare lets the requests of clients whose user agent begins with agent through every fault, and keeps them out of the
// journal: faults and journal are about rekey's connections, and a test's applications have their own.
func (c *Cloud) Spare(agent string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spared = agent
}

// spares reports whether a request of that user agent is spared.
func (c *Cloud) spares(agent string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spared != "" && strings.HasPrefix(agent, c.spared)
}
