package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store/local"
)

// localStoreAccess finds a store of type local; instead says what to do with another one.
func (a *app) localStoreAccess(name, command, instead string) (*storeAccess, error) {
	s, err := a.storeAccess(name)
	if err == nil && s.Type != config.Local {
		return nil, badInput("%s is for stores of type local; %s is of type %s. %s", command, name, s.Type, instead)
	}
	return s, err
}

func (a *app) storePut() *cobra.Command {
	var replace, create bool
	cmd := &cobra.Command{
		Use:   "put STORE PATH",
		Short: "Make a value that you have the one that applications read (local stores)",
		Long: `Reads a value from a hidden prompt or from standard input, and makes it current without a rotation: that is how a key
that already exists gets into a local store. rekey.yaml must have a key at this path, and the value must
look like a key of its provider; the provider itself is not asked. A path that has a value, or one that a rotation has
staged, is refused (exit code 3). A store that this machine does not have is made only with --create: where the worker
runs elsewhere, nobody would read it. With --replace, a rotation that is running notices the change, and stops to ask.`,
		Example: `  rekey store put local openai-prod
  rekey store put local ci-deploy < key.json
  rekey store put local openai-prod --create      before the worker was first started`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.localStoreAccess(args[0], "put", "Add the first version there with the store's own tool, then run rekey rotate.")
			if err != nil {
				return err
			}
			k, err := s.keyAt(args[1])
			if err != nil {
				return err
			}
			acts, opened, err := s.open(cmd.Context(), create, k.Provider)
			if err != nil {
				return err
			}
			// A file that is refused is reported before anybody types a key.
			if _, err := opened.Load(cmd.Context(), args[1]); fault.Is(err, fault.Unavailable) && fault.Of(err).Code == local.CodeNoStore {
				return refused("%w If this is that machine, and the worker was never started: --create", err)
			} else if err != nil {
				return s.explained(err)
			}
			value, err := a.readKey(cmd.Context(), args[0]+":"+args[1])
			if err != nil {
				return err
			}
			if value, err = fit(acts.Providers[k.Provider], k, value); err != nil {
				return err
			}
			put := opened.(*local.Store).PutFirst
			if replace {
				put = opened.(*local.Store).Put
			}
			number, err := put(cmd.Context(), args[1], value)
			if err != nil {
				return s.explained(err)
			}
			return a.print(map[string]string{"store": s.name, "path": args[1], "version": number, "fingerprint": value.Fingerprint()},
				fmt.Sprintf("Stored %s in %s:%s as version %s; applications read it now. To check whether the provider accepts it: rekey doctor", value.Fingerprint(), s.name, args[1], number))
		},
	}
	cmd.Flags().BoolVar(&create, "create", false, "make the store if this machine does not have it: its folder, its identity")
	cmd.Flags().BoolVar(&replace, "replace", false, "overwrite what applications read now; the old value stays as a version and its key stays live")
	return cmd
}

// fit returns a value in the form that is stored, if it can be one of the key.
func fit(p provider.Provider, k rotation.Key, v secret.Value) (secret.Value, error) {
	parsed, err := p.Parse(v)
	if err != nil {
		return secret.Value{}, &exit{exitBadInput, err}
	}
	if parsed.Account != "" && parsed.Account != k.Account {
		return secret.Value{}, badInput("this key belongs to %s; rekey.yaml says that %s is one of %s. Nothing was changed", parsed.Account, k.Name, k.Account)
	}
	return parsed.Value, nil
}

// explained returns a fault of a local store its exit code, and says which command goes on.
func (s *storeAccess) explained(err error) error {
	if !fault.Is(err, fault.Rejected) {
		return err
	}
	switch code := fault.Of(err).Code; {
	case code == "bad_path", code == "bad_size":
		return &exit{exitBadInput, err}
	case code == local.CodeNotEmpty:
		return &exit{exitRefused, fmt.Errorf("%w (to overwrite a value that applications read all the same: --replace)", err)}
	case slices.Contains(acceptable, code):
		return fmt.Errorf("%w To accept: rekey store accept %s", err, s.name)
	}
	return err
}

func (a *app) storeGet() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "get STORE PATH",
		Short: "Print the value that applications read (local stores)",
		Long: `For the start script of an application that cannot read the store itself. The value goes to standard output without
a newline, and nothing else does. It reads as applications do: it takes no lock, writes nothing, needs nothing but
rekey.yaml, the store's folder and its identity, and does not mind a restored file.

On a terminal it is printed only with --show: a key on a screen is in its scroll-back, in recordings and on shared
screens.`,
		Example: `  OPENAI_API_KEY="$(rekey store get local openai-prod)" exec ./app`,
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.localStoreAccess(args[0], "get", "Let the application read it from there.")
			if err != nil {
				return err
			}
			terminal := isTerminal(a.out)
			if terminal && !show {
				return badInput("standard output is a terminal, where the key would stay in the scroll-back and in recordings. Send it to a pipe, or add --show")
			}
			if a.json {
				return badInput("get prints the value and nothing else; leave --json out")
			}
			value, err := local.ReadCurrent(s.Dir, args[1], s.Identity)
			if err != nil {
				return s.explained(err)
			}
			text := value.Reveal()
			if terminal {
				text += "\n"
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		},
	}
	cmd.Flags().BoolVar(&show, "show", false, "print it on a terminal, too")
	return cmd
}

// acceptable are the codes of files that somebody may accept as they are. Others must be repaired first.
var acceptable = []string{"restored", "ledger_restored", "lost", "copied"}

// refusedFile is a file of a local store that rekey refuses.
type refusedFile struct {
	Path string `json:"path"`
	Code string `json:"code"`
	// Detail says what is wrong, and what to do first.
	Detail string `json:"detail"`
	// Fingerprint is of the value that applications read once the file is accepted; empty if there is none.
	Fingerprint string `json:"fingerprint,omitempty"`
}

func (a *app) storeAccept() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "accept STORE [PATH…]",
		Short: "Take restored, copied or lost files of a local store as they are now",
		Long: `rekey stops when a file of a local store is older than it was, came from somewhere else, or is gone: it may hold a key
that is revoked, and miss the newest. Stop the worker and put the right files in place. accept then shows what is
refused, of all paths that rekey.yaml has in the store or of those named, asks for the store's name, and takes the files
as they are. What is not refused stays untouched. Killed half-way, run it again. Afterwards start the worker, and ask
with rekey doctor whether the providers accept the values.`,
		Example: `  rekey store accept local
  rekey store accept local openai-prod --yes      for automation`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.json && !yes {
				return badInput("--json cannot ask; add --yes")
			}
			s, err := a.localStoreAccess(args[0], "accept", "Other stores have no files that could be put back behind rekey's back.")
			if err != nil {
				return err
			}
			paths := args[1:]
			if len(paths) == 0 {
				paths = s.paths()
			}
			// A ledger that was lost is made anew: then everything waits for somebody who accepts it.
			_, identityErr := os.Stat(s.Identity)
			_, opened, err := s.open(cmd.Context(), identityErr == nil)
			if err != nil {
				return err
			}
			refusedFiles, err := findRefused(cmd.Context(), opened.(*local.Store), paths)
			if refusedFiles == nil {
				return errors.Join(err, a.print(map[string]any{"store": s.name, "accepted": []refusedFile{}}, "No file is refused that could be accepted: nothing to do."))
			}
			if !a.json {
				fmt.Fprintln(a.out, acceptPreview(refusedFiles))
			}
			if question := fmt.Sprintf("\nFrom now on these %d file(s) count as they are. Type the store's name (%s) to accept them: ", len(refusedFiles), s.name); !yes && !a.confirm(question, s.name) {
				return refused("not confirmed; nothing was changed")
			}
			for i, f := range refusedFiles {
				if acceptErr := opened.(*local.Store).Accept(cmd.Context(), f.Path); acceptErr != nil {
					return errors.Join(err, fmt.Errorf("%d of %d file(s) were accepted; run it again for the rest: %w", i, len(refusedFiles), acceptErr))
				}
			}
			return errors.Join(a.print(map[string]any{"store": s.name, "accepted": refusedFiles},
				fmt.Sprintf("%d file(s) accepted. Start the worker, then check whether the providers accept the values: rekey doctor", len(refusedFiles))), err)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// findRefused returns the files that can be accepted, and as an error what is wrong with others.
func findRefused(ctx context.Context, s *local.Store, paths []string) (found []refusedFile, others error) {
	for _, path := range paths {
		_, err := s.Load(ctx, path)
		if err == nil {
			continue
		}
		f := fault.Of(err)
		current, readErr := s.Published(ctx, path)
		switch {
		case f.Code == "bad_path":
			return nil, &exit{exitBadInput, err}
		case f.Class != fault.Rejected || !slices.Contains(acceptable, f.Code), readErr != nil && !fault.Is(readErr, fault.NotFound):
			others = errors.Join(others, err)
		default:
			found = append(found, refusedFile{Path: path, Code: f.Code, Detail: f.Advice, Fingerprint: current.Fingerprint()})
		}
	}
	return found, others
}

func acceptPreview(files []refusedFile) string {
	var b strings.Builder
	for _, f := range files {
		then := "Accepted, it is empty: applications read nothing, and put or a rotation brings a value."
		if f.Fingerprint != "" {
			then = "Accepted, applications read " + f.Fingerprint + "."
		}
		fmt.Fprintf(&b, "  %s: %s. %s\n      %s\n", f.Path, f.Code, f.Detail, then)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
