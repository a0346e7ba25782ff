package local_test

import (
	"sync"
	"testing"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/local"
)

func reads(t *testing.T, p place, want secret.Value) {
	t.Helper()
	got, err := local.ReadCurrent(p.dir, "k", p.identity)
	must(t, err)
	if !got.Equal(want) {
		t.Fatalf("applications read %s, want %s", got, want)
	}
}

func TestAFirstValueNeverTakesTheStageFromAnother(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	number, err := s.PutFirst(ctx, "k", one)
	must(t, err)
	reads(t, p, one)
	_, err = s.PutFirst(ctx, "k", two)
	refused(t, err, local.CodeNotEmpty)
	reads(t, p, one)
	if again, err := s.PutFirst(ctx, "k", one); err != nil || again != number {
		t.Errorf("the same value again: version %q, %v; want %q", again, err, number)
	}
	if all, err := s.Versions(ctx, "k"); err != nil || len(all) != 1 {
		t.Errorf("versions %v, %v", all, err)
	}
}

func TestAFirstValueIsNotPutBesideOneThatARotationHasStaged(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	number, err := s.Add(ctx, "k", one)
	must(t, err)
	snap, err := s.Load(ctx, "k")
	must(t, err)
	snap.Pending = &store.Version{Number: number, Fingerprint: one.Fingerprint()}
	_, err = s.Save(ctx, "k", snap)
	must(t, err)
	_, err = s.PutFirst(ctx, "k", two)
	refused(t, err, local.CodeNotEmpty)
	_, err = s.Published(ctx, "k")
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("applications read something: %v", err)
	}
}

func TestOfFirstValuesThatArePutAtOnceOneWins(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	values := []secret.Value{one, two, secret.FromString("sk-local-value-number-three")}
	errs := make([]error, len(values))
	var wg sync.WaitGroup
	for i, v := range values {
		wg.Go(func() { _, errs[i] = s.PutFirst(ctx, "k", v) })
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case err == nil:
			t.Error("two have won")
		default:
			refused(t, err, local.CodeNotEmpty)
		}
	}
	if won < 0 {
		t.Fatal("none has won")
	}
	reads(t, p, values[won])
}
