let list = $state.raw([]);
let next = 0;
const life = { incident: 15_000, key: 5_000 };

export const notices = {
  get list() {
    return list;
  },
  drop(id) {
    list = list.filter((n) => n.id !== id);
  },
};

function push(notice) {
  const id = next++;
  list = [...list.filter((n) => n.key !== notice.key || n.incident?.id !== notice.incident?.id), { id, ...notice }].slice(-4);
  setTimeout(() => notices.drop(id), notice.incident ? life.incident : life.key);
}

// announce shows and speaks an incident that opened or resolved.
export function announce(incident) {
  push({ incident });
}

// done says that an action of the person's own worked; key is of the catalogue.
export function done(key) {
  push({ key });
}
