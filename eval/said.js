"use strict";
const words = JSON.parse(document.getElementById("words").textContent);
/* A sentence in the page's language, its values filled in. */
const _ = (text, values = {}) => (words[text] || text).replace(/\{(\w+)\}/g, (all, name) => name in values ? values[name] : all);
const count = number => number.toLocaleString("en");
/* An element with attributes and children; texts are set as texts, never as markup. */
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children.filter(child => child !== null));
  return made;
};
