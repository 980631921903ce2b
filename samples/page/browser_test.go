package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var pictures = flag.Bool("pictures", false, "write the pictures of the documentation")

// soon bounds a step in the browser.
const soon = 30 * time.Second

// The widths at which the page is looked at.
const (
	desktop = 1200
	phone   = 390
)

// browser is a real one, without a window.
type browser struct{ ctx context.Context }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	binary, err := exec.LookPath("chromium")
	require.NoError(t, err, "install Chromium (Debian: apt-get install chromium)")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(binary), chromedp.WindowSize(desktop, 900),
		chromedp.NoSandbox) // which root, as in a container, cannot have
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return &browser{ctx}
}

func (b *browser) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, actions...))
}

// evaluate returns what a script in the page returns.
func evaluate[T any](t *testing.T, b *browser, script string) (result T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("JSON.stringify("+script+")"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(text), &result))
	return result
}

// open goes to a page as a device of that width sees it, in the light or in the dark.
func (b *browser) open(t *testing.T, url string, width int64, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	b.do(t, chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	}), chromedp.Navigate(url))
}

// controls returns the name of each control, as a screen reader says it, after its role.
func (b *browser) controls(t *testing.T) (all [][2]string) {
	t.Helper()
	b.do(t, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		tree, err := cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			return err
		}
		for _, node := range tree.Nodes {
			var role, name string
			if node.Ignored || node.Role == nil || json.Unmarshal(node.Role.Value, &role) != nil {
				continue
			}
			switch role {
			case "link", "button", "textbox", "searchbox", "checkbox", "table", "region", "navigation", "search":
				if node.Name != nil {
					_ = json.Unmarshal(node.Name.Value, &name)
				}
				all = append(all, [2]string{role, name})
			}
		}
		return nil
	}))
	return all
}

// picture returns what the browser shows of the whole page.
func (b *browser) picture(t *testing.T) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, soon)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	require.NoError(t, err)
	return png
}

// keep writes a picture for the documentation, if that is wanted.
func keep(t *testing.T, name string, png []byte) {
	t.Helper()
	if !*pictures {
		return
	}
	require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "pictures", name), png, 0o644))
}
