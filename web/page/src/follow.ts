// Keeps the newest words in view until someone scrolls up. Blocks that are not in view have a size that is guessed (see page.css), so the end
// is looked for again in the frames after.

const NEAR = 40; // px from the end that count as the end
const AGAIN = 3; // frames

export class Follow {
  #box: HTMLElement;
  #on = true;
  #top = 0;
  #left = 0;

  constructor(box: HTMLElement) {
    this.#box = box;
    box.addEventListener('scroll', () => {
      const { scrollTop } = box;
      if (scrollTop + box.clientHeight >= box.scrollHeight - NEAR) this.#turn(true);
      else if (scrollTop < this.#top - 1) this.#turn(false);
      this.#top = scrollTop;
    }, { passive: true });
    this.#turn(true);
  }

  /** A new answer. */
  begin(): void {
    this.#turn(true);
  }

  /** Something was drawn. */
  now(): void {
    if (!this.#on) return;
    this.#scroll();
    if (this.#left === 0) requestAnimationFrame(this.#again);
    this.#left = AGAIN;
  }

  #again = (): void => {
    if (this.#on) this.#scroll();
    this.#left -= 1;
    if (this.#left > 0) requestAnimationFrame(this.#again);
  };

  #scroll(): void {
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#top = this.#box.scrollTop;
  }

  /** Who reads further up keeps that in place when a block above gets its size; the end has no place to keep. */
  #turn(on: boolean): void {
    this.#on = on;
    this.#box.style.overflowAnchor = on ? 'none' : 'auto';
  }
}
