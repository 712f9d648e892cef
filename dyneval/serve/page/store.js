// Results that this browser keeps, with their pictures, so that an address leads back to them. They go nowhere else.

const MOST = 40, MOST_BYTES = 2e8;

const opened = new Promise((resolve, reject) => {
  const request = indexedDB.open("dyneval", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("results", { keyPath: "id" }).createIndex("when", "when");
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
opened.catch(() => {}); // a private window may have no store: then results end with the page

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const results = async (mode) => (await opened).transaction("results", mode).objectStore("results");

// `result`: { id, when, name, blob, ... }. The oldest make room.
export async function keep(result) {
  try {
    const store = await results("readwrite");
    await settled(store.put(result));
    let number = 0, bytes = 0;
    store.index("when").openCursor(null, "prev").onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) return;
      bytes += cursor.value.blob.size;
      if (++number > MOST || (bytes > MOST_BYTES && number > 1)) cursor.delete();
      cursor.continue();
    };
  } catch {
    return false;
  }
  return true;
}

export async function recall(id) {
  try {
    return await settled((await results("readonly")).get(id));
  } catch {
    return undefined;
  }
}

export async function forget() {
  await settled((await results("readwrite")).clear()).catch(() => {});
}
