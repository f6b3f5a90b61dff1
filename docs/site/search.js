// Finds pages by words in their titles, headings and text. The index is a script, so that it also works from a folder.
(() => {
  const pages = globalThis.ocisealPages ?? [];
  const up = document.body.dataset.up ?? "";
  const input = document.getElementById("search");
  const found = document.getElementById("found");
  const score = (page, words) => {
    let sum = 0;
    for (const word of words) {
      const points =
        (page.title.toLowerCase().includes(word) ? 20 : 0) +
        (page.headings.toLowerCase().includes(word) ? 5 : 0) +
        (page.text.includes(word) ? 1 : 0);
      if (points === 0) return 0;
      sum += points;
    }
    return sum;
  };
  // Where there is no room beside the text, the list of pages opens when it is asked for.
  const narrow = matchMedia("(max-width: 52rem)");
  const fold = () => (document.getElementById("pages").open = !narrow.matches);
  narrow.addEventListener("change", fold);
  fold();
  input.addEventListener("input", () => {
    const words = input.value
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word.length > 1);
    const best =
      words.length === 0
        ? []
        : pages
            .map((page) => ({ page, points: score(page, words) }))
            .filter(({ points }) => points > 0)
            .sort((a, b) => b.points - a.points)
            .slice(0, 12);
    found.replaceChildren(
      ...best.map(({ page }) => {
        const link = document.createElement("a");
        link.href = up + page.path;
        link.textContent = page.title;
        const item = document.createElement("li");
        item.append(link);
        return item;
      }),
    );
    found.hidden = best.length === 0;
  });
})();
