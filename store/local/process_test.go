package local_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/local"
)

// TestMain lets the test binary be the other process.
func TestMain(m *testing.M) {
	switch os.Getenv("REKEY_TEST_CHILD") {
	case "count":
		exit(count())
	case "churn":
		exit(churn())
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(p place, what string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "REKEY_TEST_CHILD="+what, "REKEY_TEST_DIR="+p.dir, "REKEY_TEST_IDENTITY="+p.identity)
	cmd.Stderr = os.Stderr
	return cmd
}

func openChild() (*local.Store, error) {
	return local.New(local.Options{Dir: os.Getenv("REKEY_TEST_DIR"), IdentityFile: os.Getenv("REKEY_TEST_IDENTITY"), CreateIdentity: true})
}

const increments = 15

// count raises the claim's attempt by one, so many times, by compare-and-set.
func count() error {
	s, err := openChild()
	if err != nil {
		return err
	}
	for done := 0; done < increments; {
		snap, err := s.Load(ctx, "k")
		if err != nil {
			return err
		}
		next := store.Claim{Install: "abc123"}
		if snap.Claim != nil {
			next = *snap.Claim
		}
		next.Attempt++
		snap.Claim = &next
		if _, err = s.Save(ctx, "k", snap); err == nil {
			done++
		} else if !store.IsConflict(err) {
			return err
		}
	}
	return nil
}

func TestProcessesThatWriteAtOnceLoseNothing(t *testing.T) {
	p := newPlace(t)
	var children []*exec.Cmd
	for range 4 {
		c := child(p, "count")
		must(t, c.Start())
		children = append(children, c)
	}
	for _, c := range children {
		must(t, c.Wait())
	}
	snap, err := p.open(t).Load(ctx, "k")
	must(t, err)
	if snap.Claim == nil || snap.Claim.Attempt != len(children)*increments {
		t.Fatalf("the record counts %+v, want %d", snap.Claim, len(children)*increments)
	}
}

// churn stages and promotes values until it is killed, and says before each what it is about to publish.
func churn() error {
	s, err := openChild()
	if err != nil {
		return err
	}
	for i := 1; ; i++ {
		v := secret.FromString("sk-churn-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(i))
		number, err := s.Add(ctx, "k", v)
		if err != nil {
			return err
		}
		snap, err := s.Load(ctx, "k")
		if err != nil {
			return err
		}
		fmt.Println(v.Fingerprint())
		old := snap.Current
		if _, err = s.Promote(ctx, "k", snap, store.Version{Number: number, Fingerprint: v.Fingerprint()}); err != nil {
			return err
		}
		if old != nil {
			if err := s.Destroy(ctx, "k", old.Number); err != nil {
				return err
			}
		}
	}
}

func TestAWriterThatIsKilledAtAnyMomentLeavesAWholeStore(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	for round := range 12 {
		c := child(p, "churn")
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		lines := bufio.NewScanner(out)
		said := []string{""}
		for range 2 + round%5 {
			if !lines.Scan() {
				break
			}
			said = append(said, lines.Text())
		}
		must(t, c.Process.Kill())
		for lines.Scan() {
			said = append(said, strings.TrimSpace(lines.Text()))
		}
		_ = c.Wait() // killed

		must(t, s.Check(ctx, "k"))
		snap, err := s.Load(ctx, "k")
		must(t, err)
		got, err := s.Published(ctx, "k")
		must(t, err)
		// Either the last promote that was begun, or the one before it.
		last := said[max(1, len(said)-2):]
		if f := got.Fingerprint(); f != last[0] && f != last[len(last)-1] {
			t.Fatalf("round %d: applications read %s, want one of %v", round, f, last)
		}
		if snap.Current == nil || snap.Current.Fingerprint != got.Fingerprint() {
			t.Fatalf("round %d: the record says %+v, applications read %v", round, snap.Current, got)
		}
		if _, err := s.Read(ctx, "k", snap.Current.Number); err != nil {
			t.Fatalf("round %d: %v", round, fault.Of(err))
		}
	}
}
