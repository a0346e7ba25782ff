package local_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store/local"
)

func TestUnsafePlacesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		do   func(t *testing.T, p *place, o *local.Options)
	}{
		"an identity in the folder": {"identity_inside", func(_ *testing.T, p *place, o *local.Options) {
			o.IdentityFile = filepath.Join(p.dir, "identity.txt")
		}},
		"an identity below the folder": {"identity_inside", func(_ *testing.T, p *place, o *local.Options) {
			o.IdentityFile = filepath.Join(p.dir, "sub", "..", "deep", "identity.txt")
		}},
		"an identity in the folder by way of a link": {"identity_inside", func(t *testing.T, p *place, o *local.Options) {
			must(t, os.MkdirAll(p.dir, 0o700))
			link := filepath.Join(filepath.Dir(p.dir), "link")
			must(t, os.Symlink(p.dir, link))
			o.IdentityFile = filepath.Join(link, "identity.txt")
		}},
		"a folder that others can read": {"too_open", func(t *testing.T, p *place, _ *local.Options) {
			must(t, os.MkdirAll(p.dir, 0o700))
			must(t, os.Chmod(p.dir, 0o750))
		}},
		"an identity that others can read": {"too_open", func(t *testing.T, p *place, _ *local.Options) {
			p.open(t)
			must(t, os.Chmod(p.identity, 0o640))
		}},
		"an identity that was lost": {"identity_lost", func(t *testing.T, p *place, _ *local.Options) {
			put(t, p.open(t), "k", one)
			must(t, os.Remove(p.identity))
		}},
		"a file that is not an identity": {"bad_identity", func(t *testing.T, p *place, _ *local.Options) {
			must(t, os.MkdirAll(filepath.Dir(p.identity), 0o700))
			write(t, p.identity, []byte("AGE-SECRET-KEY-1SECRETNONSENSE\n"))
		}},
		"a folder above that others can write to": {"too_open", func(t *testing.T, p *place, _ *local.Options) {
			p.open(t)
			reachable(t, filepath.Dir(p.dir))
			must(t, os.Chmod(filepath.Dir(p.dir), 0o777))
		}},
		"a folder above that a group can write to": {"too_open", func(t *testing.T, p *place, _ *local.Options) {
			p.open(t)
			reachable(t, filepath.Dir(p.dir))
			must(t, os.Chmod(filepath.Dir(p.dir), 0o770))
		}},
		"a folder above the identity that others can write to": {"too_open", func(t *testing.T, p *place, _ *local.Options) {
			p.open(t)
			reachable(t, filepath.Dir(p.dir))
			must(t, os.Chmod(filepath.Dir(p.identity), 0o703))
		}},
		"a link in a folder that others can write to": {"too_open", func(t *testing.T, p *place, o *local.Options) {
			p.open(t)
			open := filepath.Join(t.TempDir(), "open")
			must(t, os.Mkdir(open, 0o700))
			must(t, os.Symlink(p.dir, filepath.Join(open, "keys")))
			reachable(t, filepath.Dir(open))
			must(t, os.Chmod(open, 0o777))
			o.Dir = filepath.Join(open, "keys")
		}},
		"a folder of somebody else": {"other_owner", func(t *testing.T, p *place, _ *local.Options) {
			p.open(t)
			give(t, p.dir)
		}},
		"an identity of somebody else": {"other_owner", func(t *testing.T, p *place, _ *local.Options) {
			p.open(t)
			give(t, p.identity)
		}},
		"a folder above of somebody else": {"other_owner", func(t *testing.T, p *place, _ *local.Options) {
			p.open(t)
			give(t, filepath.Dir(p.dir))
		}},
		"no folder named": {"bad_options", func(_ *testing.T, _ *place, o *local.Options) { o.Dir = "" }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			o := p.options()
			c.do(t, &p, &o)
			_, err := local.New(o)
			refused(t, err, c.code)
			if strings.Contains(err.Error(), "SECRETNONSENSE") {
				t.Fatal("the fault repeats the identity")
			}
		})
	}
}

// reachable lets others into the folders of a test, which lie in one that lets nobody in.
func reachable(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
}

func TestAFolderThatOthersCannotGetToIsTaken(t *testing.T) {
	p := newPlace(t)
	must(t, os.Chmod(filepath.Dir(p.dir), 0o777))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(p.dir)), 0o700))
	p.open(t)
}

// give makes a file somebody else's.
func give(t *testing.T, name string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	must(t, os.Chown(name, 12345, 12345))
}

func TestAFolderInAStickyOneLikeTmpIsTaken(t *testing.T) {
	p := newPlace(t)
	reachable(t, filepath.Dir(p.dir))
	must(t, os.Chmod(filepath.Dir(p.dir), 0o777|os.ModeSticky))
	p.open(t)
}

func TestAnApplicationReadsNothingFromAFolderThatOthersCanWriteTo(t *testing.T) {
	p := newPlace(t)
	put(t, p.open(t), "k", one)
	reachable(t, filepath.Dir(p.dir))
	must(t, os.Chmod(p.dir, 0o722))
	_, err := local.ReadCurrent(p.dir, "k", p.identity)
	refused(t, err, "too_open")
}

// Whoever only looks makes nothing, and does not see an empty store.
func TestAStoreThatIsNotOnThisMachineSaysSoAndIsNotMade(t *testing.T) {
	for name, away := range map[string]func(t *testing.T, p *place){
		"nothing is there":     func(*testing.T, *place) {},
		"the identity is away": func(t *testing.T, p *place) { p.open(t); must(t, os.Remove(p.identity)) },
		"the folder is away":   func(t *testing.T, p *place) { p.open(t); must(t, os.RemoveAll(p.dir)) },
		"the ledger is away":   func(t *testing.T, p *place) { p.open(t); must(t, os.RemoveAll(p.identity+".ledger")) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			away(t, &p)
			before := files(t, filepath.Dir(p.dir))
			o := p.options()
			o.CreateIdentity = false
			s, err := local.New(o)
			must(t, err)
			_, loadErr := s.Load(ctx, "k")
			_, readErr := s.Published(ctx, "k")
			_, addErr := s.Add(ctx, "k", one)
			_, versionsErr := s.Versions(ctx, "k")
			_, putErr := s.PutFirst(ctx, "k", one)
			for _, err := range []error{loadErr, readErr, addErr, versionsErr, putErr, s.Check(ctx, "k"), s.Accept(ctx, "k")} {
				if f := fault.Of(err); f == nil || f.Class != fault.Unavailable || f.Code != local.CodeNoStore || !strings.Contains(f.Error(), "does not have the store") {
					t.Errorf("got %v", err)
				}
			}
			if after := files(t, filepath.Dir(p.dir)); !slices.Equal(before, after) {
				t.Errorf("before: %v, after: %v", before, after)
			}
		})
	}
}

// files are all that stands below a folder.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		names = append(names, name)
		return err
	}))
	return names
}

func TestTwoThatMakeTheIdentityAtOnceUseTheSameOne(t *testing.T) {
	p := newPlace(t)
	stores := make([]*local.Store, 8)
	errs := make([]error, len(stores))
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() { stores[i], errs[i] = local.New(p.options()) })
	}
	wg.Wait()
	for _, err := range errs {
		must(t, err)
	}
	put(t, stores[0], "k", one)
	for _, s := range stores {
		v, err := s.Published(ctx, "k")
		must(t, err)
		if !v.Equal(one) {
			t.Fatal("another value")
		}
	}
}

func TestAnIdentityThatAgeKeygenMadeIsTaken(t *testing.T) {
	p := newPlace(t)
	p.open(t)
	text := string(bytesOf(t, p.identity))
	for _, want := range []string{"# created: 2026-11-22T12:00:00Z\n", "# public key: age1", "\nAGE-SECRET-KEY-1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the identity file lacks %q, which age-keygen writes", want)
		}
	}
	o := p.options()
	o.CreateIdentity = false
	if _, err := local.New(o); err != nil {
		t.Fatal(fault.Of(err))
	}
}
