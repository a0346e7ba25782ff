package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store/local"
)

func ioctl(t *testing.T, f *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	if _, _, code := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); code != 0 {
		t.Fatalf("ioctl %x: %v", request, code)
	}
}

// newTerminal opens a terminal: what a person types goes into keyboard, and a process that gets screen sees a terminal.
func newTerminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("this machine makes no terminals")
	} else if err != nil {
		t.Fatal(err)
	}
	var unlock, number int32
	ioctl(t, keyboard, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	ioctl(t, keyboard, syscall.TIOCGPTN, unsafe.Pointer(&number))
	if screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close(); _ = screen.Close() })
	return keyboard, screen
}

// screenful is what a terminal shows by now, whoever wrote it.
func screenful(t *testing.T, keyboard *os.File) string {
	t.Helper()
	fd := int(keyboard.Fd()) // asked for again, it would block again
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 4096)
	n, err := syscall.Read(fd, text)
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	return string(text[:max(n, 0)])
}

// shows reports whether a terminal shows what is typed.
func shows(t *testing.T, screen *os.File) bool {
	t.Helper()
	var mode syscall.Termios
	ioctl(t, screen, syscall.TCGETS, unsafe.Pointer(&mode))
	return mode.Lflag&syscall.ECHO != 0
}

// atPrompt starts `rekey store put` on a terminal of its own and waits until it asks for the key.
func atPrompt(t *testing.T) (cmd *exec.Cmd, keyboard, screen *os.File, dir string, out *strings.Builder) {
	t.Helper()
	dir = t.TempDir()
	file := filepath.Join(dir, "rekey.yaml")
	if err := os.WriteFile(file, []byte("install: abc123\nproviders: {o: {type: openai}}\nstores: {l: {type: local, dir: s, identity: i}}\nkeys: [{name: gpt, provider: o, account: proj_p, stores: [{store: l, path: gpt}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyboard, screen = newTerminal(t)
	cmd = exec.Command(os.Args[0])
	// This test binary is the command line if it is called so.
	cmd.Args = []string{"rekey", "--config", file, "store", "put", "l", "gpt", "--create"}
	out = &strings.Builder{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, out, out
	// Its own session, with the terminal: only then does Ctrl-C reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for end := time.Now().Add(20 * time.Second); shows(t, screen); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the prompt never hides what is typed")
		}
	}
	return cmd, keyboard, screen, dir, out
}

// over waits for the end of a command.
func over(t *testing.T, cmd *exec.Cmd) (code int) {
	t.Helper()
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Fatal("the command does not end")
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}

func TestAKeyThatIsTypedIsNotShown(t *testing.T) {
	cmd, keyboard, screen, dir, out := atPrompt(t)
	const key = "sk-proj-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
	if _, err := keyboard.WriteString(key + "\n"); err != nil {
		t.Fatal(err)
	}
	if code := over(t, cmd); code != exitOK || !shows(t, screen) {
		t.Fatalf("exit code %d, the terminal shows what is typed: %v\n%s", code, shows(t, screen), out)
	}
	if got, err := local.ReadCurrent(filepath.Join(dir, "s"), "gpt", filepath.Join(dir, "i")); err != nil || got.Reveal() != key {
		t.Errorf("stored: %s, %v", got, err)
	}
	searched(t, screenful(t, keyboard)+out.String(), secret.FromString(key))
}

func TestWhoLeavesThePromptGetsTheTerminalBack(t *testing.T) {
	for how, leave := range map[string]func(cmd *exec.Cmd, keyboard *os.File) error{
		"with Ctrl-C": func(_ *exec.Cmd, keyboard *os.File) error { _, err := keyboard.Write([]byte{3}); return err },
		"with Ctrl-C after a part of the key": func(_ *exec.Cmd, keyboard *os.File) error {
			_, err := keyboard.WriteString("sk-proj-AbCd\x03")
			return err
		},
		"by SIGTERM": func(cmd *exec.Cmd, _ *os.File) error { return cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(how, func(t *testing.T) {
			cmd, keyboard, screen, dir, out := atPrompt(t)
			if err := leave(cmd, keyboard); err != nil {
				t.Fatal(err)
			}
			if code := over(t, cmd); code != exitInterrupted || !shows(t, screen) || !strings.Contains(out.String(), "nothing was changed") {
				t.Errorf("exit code %d, the terminal shows what is typed: %v\n%s", code, shows(t, screen), out)
			}
			if _, err := os.Stat(filepath.Join(dir, "s", "gpt.age")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something was stored: %v", err)
			}
		})
	}
}

func TestAValueIsShownOnATerminalOnlyIfThatIsAskedFor(t *testing.T) {
	s, file := emptyStore(t)
	runStore(t, exitOK, file, s.First("ci").Reveal(), "put", scenario.Local, "ci", "--create")
	keyboard, screen := newTerminal(t)
	var errOut strings.Builder
	args := []string{"--config", file, "store", "get", scenario.Local, "ci"}
	if code := run(t.Context(), args, strings.NewReader(""), screen, &errOut); code != exitBadInput || !strings.Contains(errOut.String(), "--show") {
		t.Errorf("exit code %d: %s", code, errOut.String())
	}
	if shown := screenful(t, keyboard); shown != "" {
		t.Errorf("%d bytes were shown", len(shown))
	}
	if code := run(t.Context(), append(args, "--show"), strings.NewReader(""), screen, &errOut); code != exitOK {
		t.Errorf("exit code %d: %s", code, errOut.String())
	}
	if shown := screenful(t, keyboard); !strings.Contains(shown, `"private_key_id"`) || !strings.HasSuffix(shown, "\n") {
		t.Errorf("%d bytes were shown", len(shown))
	}
}
