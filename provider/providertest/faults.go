package providertest

import (
	"context"
	"net/http"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// during injects a fault into the requests of op, runs do, and takes it away.
func (b *bench) during(op Operation, f simcloud.Fault, do func()) {
	b.Helper()
	r, ok := b.Requests[op]
	if !ok {
		b.Fatalf("the harness does not name the request of %s", op)
	}
	f.Service, f.Method = r.Service, r.Method
	remove := b.Cloud.Inject(f)
	defer remove()
	do()
}

func outages(b *bench) {
	for _, op := range b.claimed() {
		for sentence, want := range map[string]struct {
			fault     simcloud.Fault
			class     fault.Class
			wait      time.Duration
			unsettled bool
		}{
			"too many requests": {
				simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}, fault.Throttled, 7 * time.Second, false},
			"unavailable for a known time": {
				simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusServiceUnavailable, RetryAfter: 9 * time.Second}, fault.Unavailable, 9 * time.Second, true},
			"an internal error": {
				simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusInternalServerError}, fault.Unavailable, 0, true},
			"a connection that breaks before the request": {
				simcloud.Fault{Kind: simcloud.DropBefore}, fault.Unavailable, 0, true},
		} {
			b.during(op.name, want.fault, func() {
				before := b.calls(op.name)
				err := op.send(b.Context())
				b.saw(err)
				f := fault.Of(err)
				if !fault.Is(err, want.class) || f.RetryAfter != want.wait || f.Doing == "" {
					b.Errorf("%s, %s: %v (wait %v), want class %s (wait %v)", op.name, sentence, err, f.RetryAfter, want.class, want.wait)
				}
				if f.Unsettled != (op.mutates && want.unsettled) {
					b.Errorf("%s, %s: unsettled is %v", op.name, sentence, f.Unsettled)
				}
				if n := b.calls(op.name) - before; n != 1 {
					b.Errorf("%s, %s: %d requests were sent, want 1", op.name, sentence, n)
				}
			})
		}
	}
}

func accessDenied(b *bench) {
	for _, op := range b.claimed() {
		if op.name == Probe {
			continue
		}
		for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden} {
			b.during(op.name, simcloud.Fault{Kind: simcloud.Refuse, Code: code}, func() {
				err := op.send(b.Context())
				b.saw(err)
				if f := fault.Of(err); !fault.Is(err, fault.AccessDenied) || f.Advice == "" || f.Unsettled {
					b.Errorf("%s, answered %d: %v, want a settled AccessDenied fault with advice", op.name, code, err)
				}
			})
		}
	}
	_, v := b.aKey()
	b.during(Probe, simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusForbidden}, func() {
		proof, err := b.Provider.Probe(b.Context(), b.account, v)
		b.saw(proof, err)
		if err == nil && !proof.Accepted {
			b.Errorf("a 403 is taken for a bad key: %+v", proof)
		}
		if err != nil && !fault.Is(err, fault.AccessDenied) && !fault.Is(err, fault.Unavailable) {
			b.Errorf("a 403 to a probe returns %v", err)
		}
	})
}

func oneRequest(b *bench) {
	if !b.caps.Mint {
		return
	}
	for sentence, f := range map[string]simcloud.Fault{
		"an internal error":  {Kind: simcloud.Refuse, Code: http.StatusInternalServerError},
		"a bad gateway":      {Kind: simcloud.Refuse, Code: http.StatusBadGateway},
		"unavailable":        {Kind: simcloud.Refuse, Code: http.StatusServiceUnavailable},
		"a gateway time-out": {Kind: simcloud.Refuse, Code: http.StatusGatewayTimeout},
		"a conflict":         {Kind: simcloud.Refuse, Code: http.StatusConflict},
		"too many requests":  {Kind: simcloud.Refuse, Code: http.StatusTooManyRequests},
		"a request time-out": {Kind: simcloud.Refuse, Code: http.StatusRequestTimeout},
		"a lost connection":  {Kind: simcloud.DropBefore},
		"a lost reply":       {Kind: simcloud.LoseReply},
	} {
		b.during(Mint, f, func() {
			before, live := b.calls(Mint), len(b.Cloud.LiveKeys())
			_, err := b.mint(b.Context(), b.nextStamp())
			if err == nil {
				b.Errorf("%s: the mint says that it succeeded", sentence)
			}
			if n := b.calls(Mint) - before; n != 1 {
				b.Errorf("%s: %d requests were sent, want 1", sentence, n)
			}
			made := 0
			if f.Kind == simcloud.LoseReply {
				made = 1
			}
			if n := len(b.Cloud.LiveKeys()) - live; n != made {
				b.Errorf("%s: %d keys were made, want %d", sentence, n, made)
			}
		})
	}
}

func lostReply(b *bench) {
	if !b.caps.Mint || !b.caps.List {
		return
	}
	b.settles(func(stamp string) (err error) {
		b.during(Mint, simcloud.Fault{Kind: simcloud.LoseReply}, func() {
			_, err = b.mint(b.Context(), stamp)
		})
		return err
	})
}

func lateCommit(b *bench) {
	if !b.caps.Mint || !b.caps.List {
		return
	}
	b.settles(func(stamp string) (err error) {
		release, reached, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		b.during(Mint, simcloud.Fault{Kind: simcloud.CommitLate, Times: 1, Release: release, Reached: reached, Done: done}, func() {
			ctx, giveUp := context.WithCancel(b.Context())
			go func() {
				<-reached
				giveUp()
			}()
			_, err = b.mint(ctx, stamp)
			close(release)
			<-done
		})
		return err
	})
}

// settles checks that a mint without an answer says so, and that its key can be found and removed: by its stamp, or,
// where the provider keeps none, as the one key that was not there before.
func (b *bench) settles(mint func(stamp string) error) {
	b.Helper()
	id, v := b.ForeignKey(b.T, b.account)
	b.keep(v)
	b.Advance(b.lag)
	before := b.list()
	if _, listed := before[id]; !listed {
		b.Fatal("a person's key is not listed after the list lag")
	}
	stamp := b.nextStamp()
	if err := mint(stamp); !fault.Is(err, fault.Unavailable) || !fault.Of(err).Unsettled {
		b.Fatalf("a mint without an answer returns %v, want an unsettled outage", err)
	}
	b.Advance(b.lag)
	var made []provider.Key
	for id, k := range b.list() {
		if _, old := before[id]; !old {
			made = append(made, k)
		}
	}
	if len(made) != 1 {
		b.Fatalf("%d new keys are listed, want 1", len(made))
	}
	if b.caps.Stamps && made[0].Stamp != stamp || !b.caps.Stamps && made[0].Stamp != "" {
		b.Errorf("the key is listed with stamp %q; it was minted with %q", made[0].Stamp, stamp)
	}
	if b.caps.Delete {
		err := b.Provider.Delete(b.Context(), b.account, made[0].ID)
		b.saw(err)
		b.must("delete the key", err)
		b.Advance(b.lag)
		if _, listed := b.list()[made[0].ID]; listed {
			b.Error("the deleted key is still listed after the list lag")
		}
	}
}

func noTime(b *bench) {
	ctx, cancel := context.WithTimeout(b.Context(), -time.Second)
	defer cancel()
	for _, op := range b.claimed() {
		before := b.calls(op.name)
		err := op.send(ctx)
		b.saw(err)
		if !fault.Is(err, fault.Unavailable) {
			b.Errorf("%s without time left returns %v, want an outage", op.name, err)
		}
		if b.calls(op.name) != before {
			b.Errorf("%s without time left sent a request", op.name)
		}
	}
}
