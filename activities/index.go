package activities

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

const (
	// scanConcurrency is how many keys a scan looks at at once.
	scanConcurrency = 16
	// maxVersions is how many versions an Index remembers; past it, it begins anew.
	maxVersions = 50_000
)

// Index spares the stores when many values are reported at once: reports that come while all keys are looked at share
// the next look, and a version that was read once is not read again, because versions do not change. It holds
// fingerprints and ids. The zero Index is empty. It is safe for concurrent use.
type Index struct {
	// looking is held during a look.
	looking sync.Mutex
	begun   atomic.Int64
	last    *scan

	mu       sync.Mutex
	versions map[place]Ref
}

type place struct {
	rotation.Location
	number string
}

// scan is what stood where.
type scan struct {
	number int64
	deep   bool
	// refs are the values of each key, by its name; missed are the keys that could not be looked at.
	refs   map[string][]Ref
	missed []string
}

// scan looks at all keys, deep also at the versions under no stage. It may return what another caller sees, if that one
// begins later than this call: what was stored before it is in there.
func (x *Index) scan(ctx context.Context, l *Launcher, deep bool) (*scan, error) {
	asked := x.begun.Load()
	x.looking.Lock()
	defer x.looking.Unlock()
	if s := x.last; s != nil && s.number > asked && (s.deep || !deep) {
		return s, nil
	}
	number := x.begun.Add(1)
	s, err := l.scan(ctx, deep)
	if err != nil {
		return nil, err
	}
	s.number, x.last = number, s
	return s, nil
}

func (l *Launcher) scan(ctx context.Context, deep bool) (*scan, error) {
	s := &scan{deep: deep, refs: map[string][]Ref{}}
	var mu sync.Mutex
	var all errgroup.Group
	all.SetLimit(scanConcurrency)
	for _, k := range l.Keys() {
		all.Go(func() error {
			refs, err := l.values(ctx, k, deep)
			mu.Lock()
			defer mu.Unlock()
			if s.refs[k.Name] = refs; err != nil {
				s.missed = append(s.missed, k.Name)
			}
			return nil
		})
	}
	_ = all.Wait() // no one fails
	if ctx.Err() != nil {
		return nil, fault.New(fault.Unavailable, "stopped", "look through the stores")
	}
	slices.Sort(s.missed)
	return s, nil
}

// values are those of a key, as far as they were seen before an error. A path that does not exist has none.
func (l *Launcher) values(ctx context.Context, k rotation.Key, deep bool) (refs []Ref, err error) {
	j, err := l.job(Target{Key: k})
	if err != nil {
		return nil, err
	}
	records := make([]store.Snapshot, len(j.stores))
	for i := range j.stores {
		s, failed := j.load(ctx, i)
		if failed != nil && !fault.Is(failed, fault.NotFound) {
			err = failed
			continue
		}
		records[i] = s
		for _, v := range s.Stages() {
			refs = merge(refs, j.refOf(v, i))
		}
		if !deep {
			continue
		}
		if refs, failed = j.unstagedOf(ctx, l.Index, i, s, refs); failed != nil && !fault.Is(failed, fault.NotFound) {
			err = failed
		}
	}
	currents, duties := j.currentsAndDuties(records)
	for _, r := range slices.Concat(currents, duties) {
		refs = merge(refs, r)
	}
	return refs, err
}

// unstagedOf adds the values of the i-th store that are under no stage.
func (j *job) unstagedOf(ctx context.Context, x *Index, i int, s store.Snapshot, refs []Ref) ([]Ref, error) {
	numbers, err := j.stores[i].Versions(ctx, j.path(i))
	if err != nil {
		return refs, err
	}
	for _, n := range numbers {
		at := place{j.Key.Stores[i], n}
		r, known := x.lookup(at)
		if !known {
			r, err = j.refAt(ctx, i, n, s)
			if err != nil && !fault.Is(err, fault.NotFound) {
				return refs, err
			}
			x.remember(at, r)
		}
		if r.Fingerprint != "" {
			refs = merge(refs, r)
		}
	}
	return refs, nil
}

func (x *Index) lookup(at place) (Ref, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r, known := x.versions[at]
	return r, known
}

func (x *Index) remember(at place, r Ref) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.versions == nil || len(x.versions) >= maxVersions {
		x.versions = map[place]Ref{}
	}
	x.versions[at] = r
}
