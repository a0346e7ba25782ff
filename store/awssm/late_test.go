package awssm_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/awssm"
	"github.com/rekeyhq/rekey/store/storetest"
)

// late holds a request back until its caller has gone, and returns the function that lets it take effect.
func (p *place) late(method, target string, skip int) (land func()) {
	f := simcloud.Fault{
		Service: simcloud.AWSSecretsService, Method: method, Target: target, Skip: skip, Times: 1, Kind: simcloud.CommitLate,
		Release: make(chan struct{}), Done: make(chan struct{}),
	}
	p.cloud.Inject(f)
	return func() {
		close(f.Release)
		<-f.Done
	}
}

// impatient is the store of somebody who gives up soon.
func (p *place) impatient(t *testing.T) *awssm.Store {
	t.Helper()
	s, err := awssm.New(awssm.Options{Region: p.sm.Region, Endpoint: p.sm.URL, RequestTimeout: 200 * time.Millisecond})
	must(t, err)
	return s
}

func TestASaveThatTakesEffectLateChangesNothing(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	snap := storetest.Claimed(t, p.store, path)
	land := p.late(move, ":rekey/"+path+"-", 0)
	lost := snap
	lost.Claim = &store.Claim{Install: "abc123", Rotation: "aaaaaaaa", Attempt: 1}
	_, err := p.impatient(t).Save(ctx, path, lost)
	storetest.Refused(t, err, fault.Unavailable)
	snap.Claim = &store.Claim{Install: "abc123", Rotation: "aaaaaaaa", Attempt: 2}
	want, err := p.store.Save(ctx, path, snap)
	must(t, err)
	land()
	got, err := p.store.Load(ctx, path)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestAPromoteThatTakesEffectLateIsOursNotAStrangers(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	land := p.late(move, ":"+path+"-", 1) // the first one labels the version that goes
	_, err := p.impatient(t).Promote(ctx, path, snap, v)
	storetest.Refused(t, err, fault.Unavailable)
	// Whoever comes next saves something before it lands.
	snap, err = p.store.Load(ctx, path)
	must(t, err)
	p.published(t, path, first)
	snap.Duties = []store.Duty{{Fingerprint: "0123456789ab", Rotation: "aaaaaaaa"}}
	_, err = p.store.Save(ctx, path, snap)
	must(t, err)
	land()
	p.published(t, path, other)
	got, err := p.store.Load(ctx, path)
	must(t, err)
	if got.Current == nil || got.Current.KeyID != "k" || got.Pending != nil || got.Previous == nil || len(got.Duties) != 1 {
		t.Fatalf("the record does not know its own promote: %+v", got.Record)
	}
}

func TestAPromoteDoesNotReplaceWhatSomebodyPublishedMeanwhile(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	for name, inPlace := range map[string]secret.Value{"a secret with a value": first, "an empty secret": {}} {
		t.Run(name, func(t *testing.T) {
			path := p.path(t, inPlace)
			snap, v := storetest.Staged(t, p.store, path, other)
			// After the note, before the move: the moment that the revision does not cover.
			reached, release := make(chan struct{}), make(chan struct{})
			method, skip := move, 1
			if inPlace.IsEmpty() {
				method, skip = put, 0
			}
			p.cloud.Inject(simcloud.Fault{Service: simcloud.AWSSecretsService, Method: method, Target: ":" + path + "-", Skip: skip, Times: 1, Kind: simcloud.Hold, Reached: reached, Release: release})
			done := make(chan error)
			go func() {
				_, err := p.store.Promote(ctx, path, snap, v)
				done <- err
			}()
			<-reached
			p.behind(t, path, third)
			close(release)
			if err := <-done; !store.IsConflict(err) {
				t.Fatalf("got %v, want a conflict", err)
			}
			p.published(t, path, third)
			now, err := p.store.Load(ctx, path)
			must(t, err)
			_, err = p.store.Promote(ctx, path, now, v)
			must(t, err)
			p.published(t, path, other)
		})
	}
}
