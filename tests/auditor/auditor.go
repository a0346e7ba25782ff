package auditor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/engine"
)

// Auditor watches the rotations of one key.
type Auditor struct {
	key     rotation.Key
	now     func() time.Time
	clients *Clients
	history *history

	install string
	caps    provider.Capabilities
	lags    map[string]time.Duration

	// mu makes one step follow another.
	mu           sync.Mutex
	applications []*application
	reason       rotation.Reason
}

// New makes an auditor of a key. The applications, and the auditor itself at the end, reach the world through clients.
func New(key rotation.Key, now func() time.Time, clients *Clients) *Auditor {
	return &Auditor{
		key: key, now: now, clients: clients, history: newHistory(now), lags: map[string]time.Duration{},
		applications: population(key), reason: rotation.Manual,
	}
}

// Wrap puts the auditor between a worker and its stores and providers. Nothing of the worker may be under way.
func (a *Auditor) Wrap(acts *engine.Setup) {
	a.install = acts.Install
	a.caps = acts.Providers[a.key.Provider].Capabilities()
	for name, s := range acts.Stores {
		a.lags[name] = s.Capabilities().ReadLag
		acts.Stores[name] = a.watchStore(name, s)
	}
	for name, p := range acts.Providers {
		acts.Providers[name] = &watchedProvider{p, a}
	}
}

// Reset begins a new history, of a rotation for that reason. Applications go on as they were.
func (a *Auditor) Reset(reason rotation.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reason = reason
	a.history.forget()
}

// Findings looks at the world through its official clients and returns what did not hold since Reset. result is how the
// rotation says that it ended; while its Phase is empty it goes on, and what is left is not looked at.
func (a *Auditor) Findings(ctx context.Context, result rotation.Result) []string {
	a.Step(ctx)
	var unseen []string
	if result.Phase != "" {
		unseen = a.lookAtTheEnd(ctx)
	}
	a.mu.Lock()
	reason := a.reason
	a.mu.Unlock()
	found := Judge(Case{
		Key: a.key, Install: a.install, Provider: a.caps, ReadLags: a.lags, Reason: reason, Result: result, History: a.history.all(),
	})
	found = append(append(unseen, found...), a.leaks()...)
	a.history.dropRefused()
	return found
}

// lookAtTheEnd writes down what stores and provider show, and which of the values that there ever were are accepted. It
// returns what could not be seen.
func (a *Auditor) lookAtTheEnd(ctx context.Context) (unseen []string) {
	fail := func(what string, err error) {
		if err != nil {
			unseen = append(unseen, "the auditor cannot "+what+": "+err.Error())
		}
	}
	for _, l := range a.key.Stores {
		s := a.clients.Stores[l.Store]
		op := a.history.begin(Op{Kind: Load, By: theEnd, Where: l})
		snap, err := s.Load(ctx, l.Path)
		a.history.end(op, err, func(op *Op) { op.After, op.AfterRevision = &snap.Record, snap.Revision })
		fail("read the record in "+l.String(), err)
		op = a.history.begin(Op{Kind: Published, By: theEnd, Where: l})
		v, err := s.Published(ctx, l.Path)
		a.history.end(op, err, func(op *Op) { op.Fingerprint = v.Fingerprint() })
		fail("read as applications do in "+l.String(), err)
		if err == nil {
			a.history.keep(v)
		}
	}
	if a.clients.List != nil {
		op := a.history.begin(Op{Kind: List, By: theEnd})
		keys, err := a.clients.List(ctx)
		a.history.end(op, err, func(op *Op) { op.Keys = keys })
		fail("list the keys", err)
	}
	for _, v := range a.history.kept() {
		op := a.history.begin(Op{Kind: Use, By: theEnd, Fingerprint: v.Fingerprint()})
		accepted, err := a.clients.Use(ctx, v)
		a.history.end(op, err, func(op *Op) { op.Accepted = accepted })
		fail("use "+v.Fingerprint(), err)
	}
	return unseen
}

// leaks finds key material in what was written beside the values, and in failures.
func (a *Auditor) leaks() (found []string) {
	search := secretsearch.New(a.history.kept()...)
	for _, text := range a.history.written() {
		for _, f := range search.In([]byte(text)) {
			found = append(found, fmt.Sprintf("I5: a part of the value %s is in a record, a stamp or an error that begins %.20q", f, text))
		}
	}
	return found
}

// describe is one operation on a line.
func (op Op) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", op.By, op.Kind)
	for _, part := range []string{op.Where.Store, op.Number, op.Fingerprint, op.KeyID, op.Stamp} {
		if part != "" {
			b.WriteString(" " + part)
		}
	}
	fmt.Fprintf(&b, ": %s", op.Outcome)
	return b.String()
}
