// What a person sees of the page, and does there.

import assert from 'node:assert/strict';

/** A tab, and what it shows. */
export class Shown {
  errors = [];

  static async in(browser) {
    const shown = new Shown();
    const tab = shown.tab = await browser.newPage();
    // In front of all others: a hook resumes by itself what broke when its page is seen again.
    await (await tab.createCDPSession()).send('Emulation.setFocusEmulationEnabled', { enabled: true });
    tab.on('pageerror', (error) => shown.errors.push(String(error)));
    tab.on('console', (line) => line.type() === 'error' && shown.errors.push(line.text()));
    return shown;
  }

  async go(url) {
    this.errors = [];
    assert.equal(await this.resumed(() => this.tab.goto(url, { waitUntil: 'domcontentloaded' })), 204);
    await this.until([], 'ready');
  }

  /** Waits until the answers are these, and the status; null for any answers. */
  async until(answers, status) {
    const is = (wanted) => {
      const answers = [...document.querySelectorAll('li.assistant')].map((one) => one.textContent);
      const status = document.querySelector('#status')?.textContent;
      return JSON.stringify({ ...(wanted.answers && { answers }), status }) === JSON.stringify(wanted);
    };
    const wanted = answers ? { answers, status } : { status };
    await this.tab.waitForFunction(is, { timeout: 10_000, polling: 20 }, wanted).catch(async (error) => {
      assert.deepEqual(await this.now(), wanted, error.message);
    });
  }

  now() {
    return this.tab.evaluate(() => ({
      answers: [...document.querySelectorAll('li.assistant')].map((one) => one.textContent),
      status: document.querySelector('#status')?.textContent,
    }));
  }

  /** Also in a tab that is not in front. */
  click(selector) {
    return this.tab.$eval(selector, (element) => element.click());
  }

  /** Asks, and gives the answer's id. */
  async send() {
    const head = this.tab.waitForResponse((response) => response.request().method() === 'POST', { timeout: 10_000 });
    await this.click('#send');
    return (await head).headers()['x-workflow-run-id'];
  }

  error() {
    return this.tab.$eval('#error', (element) => element.textContent);
  }

  statuses() {
    return this.tab.evaluate(() => globalThis.statuses);
  }

  /** Loads the page anew; gives the status of the request by which it resumes. */
  reload() {
    return this.resumed(() => this.tab.reload({ waitUntil: 'domcontentloaded' }));
  }

  async resumed(load) {
    const answered = (response) => new URL(response.url()).pathname.endsWith('/stream') && response.request().method() === 'GET';
    const [response] = await Promise.all([this.tab.waitForResponse(answered, { timeout: 10_000 }), load()]);
    return response.status();
  }

  close() {
    return this.tab.close();
  }
}
