package auditor

import (
	"context"
	"fmt"
	"time"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

// application is one that reads the key in its own way. What rekey promises to it: who reads afresh has a key that works,
// always; so has who keeps a copy for up to the grace period, since both keys work that long after applications could read
// the new one in every store.
type application struct {
	name string
	// reads is what it reads at the n-th time.
	reads func(n int) rotation.Location
	// keeps is for how long it uses what it has read; 0: it reads afresh for each use.
	keeps time.Duration
	// crowd: it is many processes, one started at every moment, each with a copy of its own.
	crowd bool

	n      int
	copies []held
}

// held is a copy of a value.
type held struct {
	secret.Value
	at time.Time
}

// margin is how much earlier than it must an application reads again: no clock is exact.
const margin = time.Minute

// population is who reads a key.
func population(key rotation.Key) (all []*application) {
	keeps := max(0, time.Duration(key.Policy.Grace)-margin)
	for _, l := range key.Stores {
		here := func(int) rotation.Location { return l }
		all = append(all, &application{name: "an application that reads " + l.Store + " for each use", reads: here})
		if keeps > 0 {
			all = append(all,
				&application{name: "an application that keeps a copy of " + l.Store, reads: here, keeps: keeps},
				&application{name: "an application that often refreshes its copy of " + l.Store, reads: here, keeps: keeps / 7},
				&application{name: "a process that was started lately, with a copy of " + l.Store, reads: here, keeps: keeps, crowd: true})
		}
	}
	if len(key.Stores) > 1 {
		all = append(all, &application{name: "an application that reads now one store, now another", reads: func(n int) rotation.Location { return key.Stores[n%len(key.Stores)] }})
	}
	return all
}

// Step lets every application act once. Those that hold the same value make one request together.
func (a *Auditor) Step(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// What the worker's step may take is no matter of the applications.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	now := a.now()
	read := map[rotation.Location]secret.Value{}
	for _, l := range a.key.Stores {
		if v, ok := a.readAsApplication(ctx, l); ok {
			read[l] = v
		}
	}
	type user struct {
		*application
		held
	}
	users := map[string][]user{}
	for _, app := range a.applications {
		fresh, ok := read[app.reads(app.n)]
		app.n++
		if ok {
			app.refresh(held{fresh, now})
		}
		app.drop(func(c held) bool { return app.keeps > 0 && !now.Before(c.at.Add(app.keeps)) })
		for _, c := range app.copies {
			users[c.Fingerprint()] = append(users[c.Fingerprint()], user{app, c})
		}
	}
	for f, together := range users {
		// One request is enough, and who may expect most makes it.
		one := together[0]
		for _, u := range together {
			if u.keeps < one.keeps || u.keeps == one.keeps && u.at.After(one.at) {
				one = u
			}
		}
		op := a.history.begin(Op{Kind: Use, By: one.name, Fingerprint: f, Cached: one.keeps > 0, Held: now.Sub(one.at)})
		accepted, err := a.clients.Use(ctx, one.Value)
		a.history.end(op, nil, func(op *Op) {
			op.Accepted = accepted
			if err != nil {
				op.Problem = "no answer: " + err.Error()
			}
		})
		if !accepted {
			for _, u := range together {
				u.drop(func(c held) bool { return c.Fingerprint() == f })
			}
		}
	}
}

// readAsApplication reads what a store publishes.
func (a *Auditor) readAsApplication(ctx context.Context, l rotation.Location) (secret.Value, bool) {
	op := a.history.begin(Op{Kind: Published, By: "an application", Where: l})
	v, err := a.clients.Stores[l.Store].Published(ctx, l.Path)
	a.history.end(op, err, func(op *Op) { op.Fingerprint = v.Fingerprint() })
	if err != nil {
		a.history.end(a.history.begin(Op{Kind: Use, By: "an application", Where: l}), nil, func(op *Op) {
			op.Problem = fmt.Sprintf("it cannot read %s: %v", l, err)
		})
		return v, false
	}
	a.history.keep(v)
	return v, true
}

// refresh takes what was read where it is time to.
func (app *application) refresh(c held) {
	switch {
	case app.crowd:
		app.drop(func(o held) bool { return o.Fingerprint() == c.Fingerprint() })
		app.copies = append(app.copies, c)
	case app.keeps == 0 || len(app.copies) == 0 || !c.at.Before(app.copies[0].at.Add(app.keeps)):
		app.copies = []held{c}
	}
}

func (app *application) drop(gone func(held) bool) {
	var left []held
	for _, c := range app.copies {
		if !gone(c) {
			left = append(left, c)
		}
	}
	app.copies = left
}
