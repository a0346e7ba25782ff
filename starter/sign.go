package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	sdkclient "go.temporal.io/sdk/client"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// sshKeyVariable names the key to sign with, where no flag does.
const sshKeyVariable = "REKEY_SSH_KEY"

// signing are the flags of the commands that can sign.
type signing struct {
	keyFile   string
	must, yes bool
}

// signingHelp is what --help says of a command that can sign, after its first line.
const signingHelp = `.

Where the key's policy says four_eyes, two operators have to: each runs this command, which shows the question and signs
it with the operator's SSH key. The key comes from the SSH agent (also one in hardware), or from --ssh-key; rekey.yaml
lists whose keys count, under operators.`

// signIfAsked signs a message where the rotation asks for that.
func (a *app) signIfAsked(ctx context.Context, c sdkclient.Client, namespace, key string, kind rotation.DecisionKind, f signing, m rotation.DecisionMessage, by string) (rotation.Status, rotation.DecisionMessage, error) {
	s, err := client.New(c).Status(ctx, key)
	asked := err == nil && s.Signing != nil && s.Signing.Kind == kind
	switch {
	case asked:
		e, err := expect(ctx, c, key, namespace)
		if err == nil {
			err = e.check(s.Signing.Question)
		}
		if err != nil {
			return s, m, err
		}
		m, err = a.sign(ctx, f, s, m, by)
		return s, m, err
	case err != nil && f.keyFile != "":
		return s, m, fmt.Errorf("nothing was sent: it could not be read whether the rotation of %s asks for a signature. Try again. %w", key, err)
	case !f.must:
		return s, m, nil // what else is wrong the rotation says
	case err != nil:
		return s, m, refused("no rotation of %s answers, so there is nothing to sign", key)
	}
	return s, m, refused("the rotation of %s asks for no signature on %s: it is in %s, and takes %s", key, kind, s.Phase, accepted(s))
}

func accepted(s rotation.Status) string {
	var names []string
	for _, k := range s.Accepts {
		names = append(names, string(k))
	}
	if len(names) == 0 {
		return "no decision"
	}
	return strings.Join(names, ", ")
}

// sign signs a message on what a rotation asks. by is who decides if a flag says so.
func (a *app) sign(ctx context.Context, f signing, s rotation.Status, m rotation.DecisionMessage, by string) (rotation.DecisionMessage, error) {
	cfg, err := a.config()
	if err != nil {
		return m, err
	}
	key, done, err := a.sshKey(ctx, f.keyFile, cfg)
	if err != nil {
		return m, err
	}
	defer done()
	me, _ := cfg.Operator(signed.Line(key.PublicKey()))
	switch {
	case by != "" && by != me.Name:
		return m, badInput("--by says %q, but the key %s is %s's", by, ssh.FingerprintSHA256(key.PublicKey()), me.Name)
	case s.Signing.Has(me.Name):
		return m, refused("you (%s) have already signed this; another operator has to sign too: rekey %s %s", me.Name, s.Signing.Kind, s.Key)
	}
	fmt.Fprint(a.errOut, asks(s, me, ssh.FingerprintSHA256(key.PublicKey())))
	if !f.yes && !a.confirm("\nSign? Type yes to continue: ", "yes") {
		return m, refused("nothing was signed")
	}
	m.By, m.SignedAt = me.Name, time.Now().UTC()
	if m.Signature, err = signed.Sign(key, signed.Text(s.Signing.Question, m)); err != nil {
		return m, fmt.Errorf("%s did not sign (%w). A hardware key may need to be touched; an agent may be locked (ssh-add -X)", ssh.FingerprintSHA256(key.PublicKey()), err)
	}
	return m, nil
}

// asks shows what an operator is about to sign.
func asks(s rotation.Status, me rotation.Operator, fingerprint string) string {
	q := s.Signing
	var b strings.Builder
	fmt.Fprintf(&b, "You are asked to sign for the key %s.\n\n", q.Key)
	for _, line := range []struct{ name, text string }{
		{"key", q.Key},
		{"rotation", q.Rotation},
		{"revokes", strings.Join(q.Revokes, ", ")},
		{"yes means", meaning(q.Question)},
		{"it says", q.Text},
		{"asked", q.Asked.UTC().Format(rotation.MinuteLayout)},
		{"signed", fmt.Sprintf("%d of %d %s", len(q.Signed), q.Needed, strings.Join(q.Names(), ", "))},
		{"you", me.Name + " " + fingerprint},
	} {
		fmt.Fprintf(&b, "  %-10s %s\n", line.name, strings.TrimSpace(plain(line.text)))
	}
	return b.String()
}

// signedText says how far the question is.
func signedText(kind rotation.DecisionKind, before, after rotation.Status) string {
	n := 1
	if before.Signing != nil {
		n += len(before.Signing.Signed)
	}
	if n >= rotation.Eyes {
		return fmt.Sprintf("%s signed, %d of %d. %s goes on.", kind, n, rotation.Eyes, after.Key)
	}
	return fmt.Sprintf("%s signed, %d of %d. Another operator has to sign too: rekey %s %s", kind, n, rotation.Eyes, kind, after.Key)
}

// sshKey finds the key to sign with, which is an operator's. done gives the agent back.
func (a *app) sshKey(ctx context.Context, file string, cfg *config.Config) (key ssh.Signer, done func(), err error) {
	var keys []ssh.Signer
	var where string
	if file == "" {
		where = "the SSH agent"
		keys, done, err = fromAgent(ctx, nil)
	} else {
		where = file
		keys, done, err = a.fromFile(ctx, file)
	}
	if err != nil {
		return nil, done, err
	}
	var mine []ssh.Signer
	var seen []string
	for _, k := range keys {
		seen = append(seen, ssh.FingerprintSHA256(k.PublicKey()))
		if _, ok := cfg.Operator(signed.Line(k.PublicKey())); ok {
			mine = append(mine, k)
		}
	}
	if len(mine) == 1 {
		return mine[0], done, nil
	}
	done()
	if len(mine) > 1 {
		return nil, func() {}, badInput("%s has keys of several operators; choose one with --ssh-key FILE.pub", where)
	}
	var names []string
	for _, o := range cfg.Operators {
		names = append(names, o.Name)
	}
	have := "it holds none"
	if len(seen) > 0 {
		have = "it has " + strings.Join(seen, ", ")
	}
	return nil, func() {}, badInput("%s has no key of an operator (%s; %s lists %s). Add yours with ssh-add, or name its file with --ssh-key", where, have, a.configFile, strings.Join(names, ", "))
}

// fromAgent returns the agent's keys, or the one that is asked for.
func fromAgent(ctx context.Context, only ssh.PublicKey) ([]ssh.Signer, func(), error) {
	none := func() {}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, none, badInput("no SSH agent to sign with: SSH_AUTH_SOCK is not set. Start one (eval $(ssh-agent); ssh-add), or name a key file with --ssh-key")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, none, badInput("the SSH agent does not answer on %s (SSH_AUTH_SOCK). Start one (eval $(ssh-agent); ssh-add), or name a key file with --ssh-key", socket)
	}
	done := func() { _ = conn.Close() }
	keys, err := agent.NewClient(conn).Signers()
	if err != nil {
		done()
		return nil, none, badInput("the SSH agent on %s does not list its keys; is it locked (ssh-add -X)?", socket)
	}
	if only == nil {
		return keys, done, nil
	}
	for _, k := range keys {
		if signed.Line(k.PublicKey()) == signed.Line(only) {
			return []ssh.Signer{k}, done, nil
		}
	}
	done()
	return nil, none, badInput("the SSH agent does not have the key %s. Add it with ssh-add", ssh.FingerprintSHA256(only))
}

// fromFile reads a private key, or finds that of a public one in the agent.
func (a *app) fromFile(ctx context.Context, file string) ([]ssh.Signer, func(), error) {
	none := func() {}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, none, badInput("the key file %s cannot be read: %v", file, errors.Unwrap(err))
	}
	if public, err := signed.ParseKey(strings.TrimSpace(string(text))); err == nil {
		return fromAgent(ctx, public)
	}
	key, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		f, ok := a.in.(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) {
			return nil, none, badInput("the key file %s is locked with a passphrase, and there is no terminal to ask for it on. Add the key to an agent: ssh-add %s", file, file)
		}
		var passphrase []byte
		if passphrase, err = a.hidden(ctx, int(f.Fd()), "Passphrase of "+file+" (not shown): ", "nothing was signed"); err != nil {
			return nil, none, err
		}
		if key, err = ssh.ParsePrivateKeyWithPassphrase(text, passphrase); err != nil {
			return nil, none, badInput("that is not the passphrase of %s", file)
		}
	}
	if err != nil {
		return nil, none, badInput("%s holds no private SSH key that can be used here. A key in hardware signs through the agent: ssh-add %s, then leave --ssh-key out or name the .pub file", file, file)
	}
	return []ssh.Signer{key}, none, nil
}
