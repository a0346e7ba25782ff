// Package simcloud is a cloud on loopback: providers and stores that speak the real ones' wire protocols to the
// real ones' official clients. It is strict where the real one is strict, has the real one's awkward timing as
// settings, fails where a test says, and keeps a journal from which the invariants are checked.
//
// What a service here asserts about the real one names its source beside the code.
package simcloud

import (
	"context"
	"sync"
	"time"

	"github.com/rekeyhq/rekey/secret"
)

// Timing is how late the real services are. The zero value is a cloud without any delay.
type Timing struct {
	// Propagation is how long a new key is refused although it exists.
	Propagation time.Duration
	// RevocationLag is how long a deleted or disabled key is still accepted.
	RevocationLag time.Duration
	// ListLag is how long a new key is missing from lists and a deleted one still in them.
	ListLag time.Duration
	// VisibleLag is how long requests that name a new key by its id do not find it.
	VisibleLag time.Duration
	// AliasLag is how long readers by alias or `latest` see the former version.
	AliasLag time.Duration
}

// Cloud is what all simulated services share: one clock, one journal, one list of faults to inject.
type Cloud struct {
	now func() time.Time

	mu       sync.Mutex
	timing   Timing
	faults   []*Fault
	journal  []Event
	spared   string
	identify []func(secret.Value) (keyID string, ok bool)
}

// New makes an empty cloud whose time is now (nil: the real clock).
func New(now func() time.Time) *Cloud {
	if now == nil {
		now = time.Now
	}
	return &Cloud{now: now}
}

// Now is the cloud's time.
func (c *Cloud) Now() time.Time { return c.now() }

// SetTiming changes the delays of what happens from now on.
func (c *Cloud) SetTiming(t Timing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timing = t
}

// Timing returns the delays in force.
func (c *Cloud) Timing() Timing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timing
}

// IdentifyWith registers how a provider finds the id of its key in a value, so that the journal can say which
// key a stored value is.
func (c *Cloud) IdentifyWith(f func(secret.Value) (keyID string, ok bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identify = append(c.identify, f)
}

// KeyID asks the providers which of their keys v is; empty if none knows it.
func (c *Cloud) KeyID(v secret.Value) string {
	c.mu.Lock()
	ask := c.identify
	c.mu.Unlock()
	for _, f := range ask {
		if id, ok := f(v); ok {
			return id
		}
	}
	return ""
}

// Call runs one request of a service through the faults that are set for it and writes it to the journal.
// handle does the work and returns how it ended; it runs at most once. A nil *Failure means that the caller gets
// handle's answer; otherwise the transport must answer as the failure says.
func (c *Cloud) Call(ctx context.Context, service, method, target string, handle func()) *Failure {
	c.Record(Event{Kind: Called, Service: service, Method: method, Target: target})
	f := c.take(service, method, target)
	if f == nil {
		handle()
		return nil
	}
	if f.Reached != nil {
		close(f.Reached)
	}
	switch f.Kind {
	case Refuse:
		return &Failure{Code: f.Code, RetryAfter: f.RetryAfter}
	case DropBefore:
		return &Failure{Drop: true}
	case LoseReply, CutReply:
		handle()
		return &Failure{Drop: true, Cut: f.Kind == CutReply}
	case CommitLate:
		// The caller gives up first; what it asked for happens when the test says so.
		go func() {
			<-f.Release
			handle()
			if f.Done != nil {
				close(f.Done)
			}
		}()
		<-ctx.Done()
		return &Failure{Drop: true}
	case Hold:
		select {
		case <-f.Release:
		case <-ctx.Done():
			return &Failure{Drop: true}
		}
		handle()
		return nil
	default:
		panic("simcloud: unknown fault kind")
	}
}
