// Resource is something read from the API: data, or the error of the last try.
export class Resource {
  data = $state.raw(undefined);
  error = $state.raw(undefined);
  loading = $state(true);
  #read;
  #turn = 0;

  constructor(read) {
    this.#read = read;
    this.reload();
  }

  async reload() {
    const turn = ++this.#turn;
    this.loading = true;
    try {
      const data = await this.#read();
      if (turn !== this.#turn) return;
      this.data = data;
      this.error = undefined;
    } catch (e) {
      if (turn === this.#turn) this.error = e;
    } finally {
      if (turn === this.#turn) this.loading = false;
    }
  }
}
