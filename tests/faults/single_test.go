// Package faults lets every request of a rotation go wrong in every way, one at a time, in virtual time.
package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/tests/virtual"
	"github.com/rekeyhq/rekey/workflows"
)

// envFault runs one case again: what a failure prints.
const envFault = "REKEY_FAULT"

// course is a way in which a rotation goes.
type course struct {
	name   string
	shape  virtual.Shape
	reason rotation.Reason
	// back: somebody asks to roll back in grace.
	back bool
}

func courses() []course {
	var all []course
	for _, s := range virtual.Shapes() {
		all = append(all, course{s.Name, s, rotation.Manual, false}, course{s.Name + "-emergency", s, rotation.Emergency, false}, course{s.Name + "-reverse", s, rotation.Manual, true})
	}
	return all
}

// one is a case: the n-th request of a course goes wrong in one way.
type one struct {
	course course
	n      int
	kind   string
}

func (o one) String() string { return fmt.Sprintf("%s/%d/%s", o.course.name, o.n, o.kind) }

func parse(text string) (one, error) {
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[1])
		known := slices.Contains(singles, parts[2])
		for _, c := range courses() {
			if c.name == parts[0] && known && err == nil && n >= 0 {
				return one{c, n, parts[2]}, nil
			}
		}
	}
	return one{}, fmt.Errorf("%s=%q is not a case; expected one like google-one-store/17/lose", envFault, text)
}

// stage is a world in which one course runs again and again.
type stage struct {
	audited
	course course

	late late
	back atomic.Bool
}

func newStage(t *testing.T, server *devserver.Server, c course) (*stage, error) {
	s := &stage{course: c}
	var err error
	s.World, err = virtual.NewWorld(context.Background(), server, virtual.Options{Shape: c.shape, Dir: t.TempDir(), Mode: "upload", RequestTimeout: "1s"})
	if err != nil {
		return nil, err
	}
	s.Before = func(name string) {
		s.late.commit(true)
		if name == activities.CheckHealthName && s.back.CompareAndSwap(true, false) {
			_ = s.Decide(context.Background(), rotation.RollBack, rotation.DecisionMessage{Why: "the new key is no good"})
		}
	}
	s.After = func(string) { s.late.commit(false) }
	return s, s.watch()
}

// rotate runs the course once; o is what goes wrong, and may be nil. It returns what did not hold.
func (s *stage) rotate(o *one) []string {
	if o != nil {
		f := nth(o.n, o.kind)
		if f.Kind == simcloud.CommitLate {
			s.late.expect(&f, o.kind == "later")
			defer s.late.forget()
		}
		defer s.Cloud.Inject(f)()
		defer s.late.commit(true)
	}
	s.back.Store(s.course.back)
	s.begins(s.course.reason)
	ctx, cancel := s.watched(context.Background())
	defer cancel()
	res, err := s.Rotate(ctx, time.Duration(s.Key.Policy.Period), s.course.reason)
	s.back.Store(false)
	var problems []string
	switch {
	case ctx.Err() != nil:
		now, _ := s.Status(context.Background())
		does := fmt.Sprintf("I7: it does not end: %v; it is in %s since %v, now %v:\n%s", context.Cause(ctx), now.Phase, now.Trail, s.Now(), now.Details)
		return append([]string{does}, s.seen(rotation.Result{})...)
	case err != nil:
		problems = append(problems, err.Error())
	case res.Phase != rotation.Completed && res.Phase != rotation.RolledBack || res.NotDue:
		problems = append(problems, fmt.Sprintf("it ended in %s: %s", res.Phase, res.Outcome))
	}
	return append(problems, s.judged(res)...)
}

func (s *stage) calls() (n int) {
	for _, e := range s.Cloud.Journal() {
		if e.Kind == simcloud.Called {
			n++
		}
	}
	return n
}

// try runs a case and, after it, a rotation without a fault: nothing may be left that keeps the next one from going well.
func (s *stage) try(o one) []string {
	problems := s.rotate(&o)
	if len(problems) == 0 {
		for _, p := range s.rotate(nil) {
			problems = append(problems, "the rotation after it: "+p)
		}
	}
	return problems
}

func TestWhateverRequestGoesWrongOnceNothingIsLost(t *testing.T) {
	t.Parallel()
	server, err := devserver.Start(t.Context(), devserver.Options{SearchAttributes: workflows.SearchAttributes(), SkipTime: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	began := time.Now()
	var cases []one
	if text := os.Getenv(envFault); text != "" {
		o, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		cases = []one{o}
	} else {
		cases = chosen(t, server)
	}
	var done, failed atomic.Int64
	byCourse := map[string][]one{}
	for _, o := range cases {
		byCourse[o.course.name] = append(byCourse[o.course.name], o)
	}
	work := make(chan []one)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for part := range work {
				runAll(t, server, part, &done, &failed)
			}
		})
	}
	const part = 30
	for _, list := range byCourse {
		for ; len(list) > part; list = list[part:] {
			work <- list[:part]
		}
		work <- list
	}
	close(work)
	all.Wait()
	fmt.Printf("single faults: %d cases, %d violations, %.0f s\n", done.Load(), failed.Load(), time.Since(began).Seconds())
}

// runAll runs cases of one course in one world, and in another one after a violation.
func runAll(t *testing.T, server *devserver.Server, cases []one, done, failed *atomic.Int64) {
	var s *stage
	for _, o := range cases {
		if s == nil {
			var err error
			if s, err = newStage(t, server, o.course); err != nil {
				t.Error(err)
				return
			}
		}
		done.Add(1)
		if problems := s.try(o); len(problems) > 0 {
			failed.Add(1)
			t.Errorf("%s=%s\n  %s", envFault, o, strings.Join(problems, "\n  "))
			s.Close()
			s = nil
		}
	}
	if s != nil {
		s.Close()
	}
}

// some returns all courses where somebody asks for many cases, and two at random otherwise.
func some(all []course) []course {
	if os.Getenv(envFaults) != "" {
		return all
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:2]
}

// chosen measures how many requests each course has, and returns the cases to run.
func chosen(t *testing.T, server *devserver.Server) []one {
	var all []one
	for _, c := range some(courses()) {
		s, err := newStage(t, server, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.rotate(nil) {
			t.Errorf("%s without a fault: %s", c.name, p)
		}
		before := s.calls()
		for _, p := range s.rotate(nil) {
			t.Errorf("%s without a fault, again: %s", c.name, p)
		}
		n := s.calls() - before
		s.Close()
		for i := range n {
			for _, k := range singles {
				all = append(all, one{c, i, k})
			}
		}
		t.Logf("%s: %d requests", c.name, n)
	}
	t.Logf("%d single faults in all", len(all))
	limit := 6
	switch text := os.Getenv(envFaults); {
	case text == "all":
		return all
	case text != "":
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			t.Fatalf("%s=%q: expected a number of cases, or all", envFaults, text)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(limit, len(all))]
}
