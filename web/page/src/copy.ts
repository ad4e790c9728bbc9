// The button of a block of code.

export async function copied(e: MouseEvent): Promise<void> {
  const button = e.target instanceof Element ? e.target.closest<HTMLButtonElement>('button.copy') : null;
  const code = button?.parentElement?.querySelector('code');
  if (!button || !code) return;
  const done = await copy((code.textContent ?? '').replace(/\n$/, ''));
  button.dataset.done = done ? 'Copied' : 'Not allowed';
  button.setAttribute('aria-label', done ? 'Copied the code' : 'The browser does not allow it');
  setTimeout(() => {
    delete button.dataset.done;
    button.setAttribute('aria-label', 'Copy the code');
  }, 2000);
}

/** Over plain HTTP, on another machine, a browser has no clipboard but the old one. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea'), was = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    if (was instanceof HTMLElement) was.focus();
    return done;
  }
}
