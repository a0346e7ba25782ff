// Package keyyears lets keys live for years of virtual time, and says how many a minute.
package keyyears

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/tests/virtual"
	"github.com/rekeyhq/rekey/workflows"
)

const year = 365 * 24 * time.Hour

// envFor is how long keys live, in real time, like 10m; empty lets each shape live half a year.
const envFor = "REKEY_KEY_YEARS"

func start(t *testing.T) *devserver.Server {
	t.Helper()
	server, err := devserver.Start(t.Context(), devserver.Options{SearchAttributes: workflows.SearchAttributes(), SkipTime: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

func world(t *testing.T, server *devserver.Server, s virtual.Shape) *virtual.World {
	t.Helper()
	w, err := virtual.NewWorld(t.Context(), server, virtual.Options{Shape: s, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// life is what a key has lived through.
type life struct {
	w         *virtual.World
	span      time.Duration
	rotations int
	problems  []string
}

// live rotates a key whenever it is due.
func live(ctx context.Context, w *virtual.World, span time.Duration) (out life) {
	out.w = w
	began := w.Now()
	for reason := rotation.Manual; w.Now().Sub(began) < span; reason = rotation.Scheduled { // nobody may know how old the first key is
		res, err := w.Rotate(ctx, time.Duration(w.Key.Policy.Period)+time.Hour, reason)
		switch {
		case err != nil:
			out.problems = append(out.problems, err.Error())
			return out
		case res.Phase != rotation.Completed || res.NotDue || len(res.FollowUps) > 0:
			out.problems = append(out.problems, fmt.Sprintf("%s: %s %v", res.Phase, res.Outcome, res.FollowUps))
		}
		out.rotations++
	}
	out.span = w.Now().Sub(began)
	out.problems = append(out.problems, w.Check()...)
	return out
}

func TestKeysOfEveryShapeLiveForYearsAndTheInvariantsHold(t *testing.T) {
	server := start(t)
	shapes, n := virtual.Shapes(), 0
	span, until, atOnce := year/2, time.Time{}, len(shapes)
	if text := os.Getenv(envFor); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s=%q is not a valid duration: %v", envFor, text, err)
		}
		span, until, atOnce = 2*year, time.Now().Add(d), 2*len(shapes)
	}
	began := time.Now()
	ends := make(chan life)
	launch := func() {
		w := world(t, server, shapes[n%len(shapes)])
		n++
		go func() { ends <- live(context.Background(), w, span) }()
	}
	for range atOnce {
		launch()
	}
	var all life
	var checks, messages int64
	for open := atOnce; open > 0; open-- {
		e := <-ends
		for _, p := range e.problems {
			t.Errorf("%s: %s", e.w.Name, p)
		}
		e.w.Close()
		all.span += e.span
		all.rotations += e.rotations
		checks += e.w.Checks.Load()
		messages += e.w.Messages.Load()
		if time.Now().Before(until) && !t.Failed() {
			launch()
			open++
		}
	}
	fmt.Printf("key-years: %.1f in %.0f s, with %d rotations, %d health checks in grace, %d notifications to people\n",
		float64(all.span)/float64(year), time.Since(began).Seconds(), all.rotations, checks, messages)
}

func TestAWeekOfGraceTakesSeconds(t *testing.T) {
	w := world(t, start(t), virtual.Shape{Name: "week", Stores: virtual.Shapes()[1].Stores, Policy: []string{"grace: 7d", "soak: 24h"}})
	defer w.Close()
	began := time.Now()
	res, err := w.Rotate(t.Context(), 0, rotation.Manual)
	if err != nil || res.Phase != rotation.Completed || res.EndedAt.Sub(res.StartedAt) < 8*24*time.Hour {
		t.Fatalf("%+v, %v", res, err)
	}
	for _, broken := range w.Check() {
		t.Error(broken)
	}
	t.Logf("%v of virtual time in %v, %d health checks", res.EndedAt.Sub(res.StartedAt), time.Since(began), w.Checks.Load())
}

func TestAScheduleBeatsEveryDayAndRotatesWhatIsDue(t *testing.T) {
	w := world(t, start(t), virtual.Shapes()[0])
	defer w.Close()
	began := time.Now()
	const beats = 92
	for range beats {
		if err := w.Beat(t.Context(), 24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d beats in %v", beats, time.Since(began))
	res, err := w.Wait(t.Context())
	if err != nil || res.Phase != rotation.Completed || res.NotDue {
		t.Fatalf("%+v, %v", res, err)
	}
	for _, broken := range w.Check() {
		t.Error(broken)
	}
}
